// Asks for what the first look needs beside the page's scripts, not after them: on slow lines each turn counts.
{
  // The page may stand at the address of a car.
  const [, before, code] = /^(.*\/)c\/([^/]+)$/.exec(location.pathname) ?? [null, ""];
  const ahead = ["model"];
  if (code && !location.hash) ahead.push(`c/${code}.webp`);
  // As panels/compress.js asks for its first car.
  if (!code && ["", "#", "#compress"].includes(location.hash)) ahead.push("sample.json?count=1&seed=28&images=webp");
  // As panels/interpolate.js asks for its first path.
  if (location.hash === "#interpolate") ahead.push("interpolate.webp?seed=28&seed=48&steps=33&method=linear");
  for (const path of ahead) {
    const link = document.createElement("link");
    const href = before + path;
    document.head.append(Object.assign(link, { rel: "preload", as: "fetch", crossOrigin: "", fetchPriority: "high", href }));
  }
}
