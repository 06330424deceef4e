// Asks for what the first look needs beside the page's scripts, not after them: on slow lines each turn counts.
{
  const ahead = ["model"];
  // As panels/interpolate.js asks for its first path.
  if (["", "#", "#interpolate"].includes(location.hash)) {
    ahead.push("interpolate.webp?seed=28&seed=48&steps=33&method=linear");
  }
  for (const href of ahead) {
    const link = document.createElement("link");
    document.head.append(Object.assign(link, { rel: "preload", as: "fetch", crossOrigin: "", fetchPriority: "high", href }));
  }
}
