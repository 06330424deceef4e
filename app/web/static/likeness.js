// What to say of a photograph that does not look like a car to the model.

const LIMIT = 0.5;

/** The remark on a photograph, by what the service says of it; "" where there is nothing to say. */
export function remarkOn(likeness) {
  if (likeness === null || likeness === undefined || likeness >= LIMIT) return "";
  return "This does not look like a car to the model. It knows one car that fills the picture, and makes something like it of all else.";
}
