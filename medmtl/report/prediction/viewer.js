"use strict";
(async () => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const [down, across] = about.tile, [height, width] = about.inner, [rowMm, columnMm] = about.pixel_mm;
  const byId = (id) => document.getElementById(id);
  const sheet = byId("image-sheet"), slice = byId("slice"), frame = byId("frame"), play = byId("play");
  await sheet.decode();

  // Voxel values of every mask sheet: grey values, rounded back to what they stand for.
  const masks = {};
  for (const image of document.querySelectorAll(".mask-sheet")) {
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const grey = about.grey[image.dataset.task];
    masks[image.dataset.task] = (s, f) => {
      const pixels = pen.getImageData(f * across, s * down, width, height).data, codes = new Uint8Array(width * height);
      for (let i = 0; i < codes.length; i++) codes[i] = Math.round(pixels[4 * i] / grey);
      return codes;
    };
  }

  // Outline of the pixels that hold a code (marching squares): segments between midpoints of pixel neighbours.
  const EDGES = { 1: [[3, 2]], 2: [[2, 1]], 3: [[3, 1]], 4: [[1, 0]], 5: [[3, 0], [1, 2]], 6: [[2, 0]], 7: [[3, 0]],
    8: [[0, 3]], 9: [[0, 2]], 10: [[0, 1], [2, 3]], 11: [[0, 1]], 12: [[1, 3]], 13: [[1, 2]], 14: [[2, 3]] };
  const SIDES = [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]];
  const outline = (codes, code) => {
    const path = new Path2D();
    const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && codes[y * width + x] === code ? 1 : 0;
    for (let y = -1; y < height; y++) {
      for (let x = -1; x < width; x++) {
        const corner = at(x, y) * 8 + at(x + 1, y) * 4 + at(x + 1, y + 1) * 2 + at(x, y + 1);
        for (const [from, to] of EDGES[corner] ?? []) {
          path.moveTo(x + 0.5 + SIDES[from][0], y + 0.5 + SIDES[from][1]);
          path.lineTo(x + 0.5 + SIDES[to][0], y + 0.5 + SIDES[to][1]);
        }
      }
    }
    return path;
  };

  const shown = about.structures.map(() => true);
  const draw = (canvas, s, f, wide) => {
    const scale = wide / width, tall = Math.round((wide * height * rowMm) / (width * columnMm)), pen = canvas.getContext("2d");
    canvas.width = wide;
    canvas.height = tall;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(sheet, f * across, s * down, width, height, 0, 0, wide, tall);
    pen.setTransform(scale, 0, 0, tall / height, 0, 0);
    const codes = {};
    about.structures.forEach((structure, index) => {
      if (!shown[index] || !masks[structure.task]) return;
      codes[structure.task] ??= masks[structure.task](s, f);
      const path = outline(codes[structure.task], structure.code);
      pen.strokeStyle = structure.color;
      pen.lineWidth = Math.max(1.2, wide / 260) / scale;
      pen.lineCap = "round";
      pen.stroke(path);
    });
  };

  const sliceText = (s) => `slice ${about.slices[s] + 1} of ${about.n_slices}`;
  const frameText = (f) => {
    if (about.n_frames < 2) return "";
    const time = about.time_ms ? `, ${Math.round(about.time_ms[about.frames[f]])} ms` : "";
    return `frame ${about.frames[f] + 1} of ${about.n_frames}${time}`;
  };
  const cursor = byId("cursor"), places = cursor ? cursor.dataset.x.split(" ") : [];
  const strip = [];
  const update = () => {
    const s = +slice.value, f = +frame.value, text = [sliceText(s), frameText(f)].filter(Boolean).join(" · ");
    draw(byId("view"), s, f, 480);
    byId("what").textContent = text;
    slice.setAttribute("aria-valuetext", sliceText(s));
    frame.setAttribute("aria-valuetext", frameText(f));
    if (cursor) for (const end of ["x1", "x2"]) cursor.setAttribute(end, places[about.frames[f]]);
    for (const one of strip) one.button.setAttribute("aria-pressed", one.slice === s && one.frame === f);
  };

  // The strip: the middle slice over time, or slices where there is one frame.
  const some = (count, most) => [...new Set(Array.from({ length: Math.min(count, most) }, (_, i) => Math.round((i * (count - 1)) / Math.max(1, Math.min(count, most) - 1))))];
  const area = (s, f) => about.structures.reduce((sum, one) => sum + (masks[one.task] ? masks[one.task](s, f).filter((code) => code === one.code).length : 0), 0);
  const filled = about.slices.map((_, s) => s).filter((s) => area(s, 0) > 0);
  const middle = filled.length ? filled[filled.length >> 1] : about.slices.length >> 1;
  const over = about.frames.length > 1 ? some(about.frames.length, 8).map((f) => [middle, f]) : some(about.slices.length, 8).map((s) => [s, 0]);
  for (const [s, f] of over) {
    const button = document.createElement("button"), canvas = document.createElement("canvas"), label = document.createElement("span");
    button.type = "button";
    label.textContent = (about.frames.length > 1 ? frameText(f) : sliceText(s)).replace(/ of \d+/, "");
    button.append(canvas, label);
    button.addEventListener("click", () => { slice.value = s; frame.value = f; update(); });
    strip.push({ button, canvas, slice: s, frame: f });
    byId("strip").append(button);
  }
  const redraw = () => { for (const one of strip) draw(one.canvas, one.slice, one.frame, 240); update(); };

  byId("top").textContent = about.top;
  byId("side").textContent = about.left;
  slice.value = middle;
  for (const slider of [slice, frame]) slider.addEventListener("input", update);
  for (const box of document.querySelectorAll("[data-structure]")) {
    box.addEventListener("change", () => { shown[+box.dataset.structure] = box.checked; redraw(); });
  }
  let timer = 0;
  play?.addEventListener("click", () => {
    const playing = timer === 0;
    clearInterval(timer);
    timer = playing ? setInterval(() => { frame.value = (+frame.value + 1) % about.frames.length; update(); }, 80) : 0;
    play.textContent = playing ? "Stop" : "Play";
    play.setAttribute("aria-pressed", playing);
  });
  redraw();
  document.documentElement.dataset.ready = "yes";
})();
