// What went wrong, in words for people.

const WORDS = {
  damaged: "This code is damaged: a character of it is missing or changed. Copy all of it once more.",
  foreign: "This code is of another model, which this service does not read.",
  canvas: "The browser has no room left to draw on. Close other tabs, and try again.",
  page: "Something on this page went wrong. Try again, or load the page anew.",
  picture: "A picture came back damaged.",
  stopped: "Sending was stopped.",
  slow: "The service has not answered in time.",
  0: "The service cannot be reached. Check the connection, and whether it is running.",
  400: "This picture cannot be read: it is damaged or incomplete. Try another one.",
  401: "This service needs an API key, and was given none or a wrong one.",
  409: "This car was made by another version of the model and means nothing to this one. Take a new one.",
  413: "That is more than this service takes.",
  415: "This is not a kind of picture the service reads. JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC work.",
  422: "The service does not accept this.",
  429: "The service is very busy. Try again in a moment.",
  500: "Something broke inside the service.",
  503: "The service is starting or shutting down. Try again in a moment.",
  504: "The service is so busy that the request waited too long. Try again in a moment.",
};
const WITH_DETAIL = new Set([413, 422]);

/**
 * What failed: `status` is that of the answer, 0 where there was none, or one of the words above for what failed here;
 * `problem` is the service's own (RFC 9457).
 */
export class Problem extends Error {
  constructor(status, problem) {
    super(words(status, problem ?? {}));
    this.status = status;
  }
}

/** What failed with some files, each by its name; they are what is `left` to do. */
export class FilesProblem extends Problem {
  constructor(failed) {
    const returning = failed.find(({ problem }) => !(problem.status >= 400 && problem.status < 500)) ?? failed[0];
    super(returning.problem.status);
    this.message = failed.map(({ file, problem }) => (file.name ? `${file.name}: ${problem.message}` : problem.message)).join(" ");
    this.left = failed.map(({ file }) => file);
  }
}

function words(status, problem) {
  const known = WORDS[status] ?? (status >= 500 ? WORDS[500] : `The service refused (${status}): ${problem.detail ?? ""}`);
  if (WITH_DETAIL.has(status) && problem.detail) return `${known} It says: ${problem.detail}.`;
  if (status === 500 && problem.request_id) return `${known} Its operator can look for request ${problem.request_id}.`;
  return known;
}
