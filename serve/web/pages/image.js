// A field that is an image: a file is drawn into a canvas of its size, and becomes an array, channels first.
import { make } from "/pages/dom.js";
import { range, size, values, within } from "/pages/fields.js";

// The plane of colour that a channel takes: of three channels red, green and blue, of any other number brightness.
const plane = (pixels, channel, channels) => (at) =>
  channels === 3 ? pixels[4 * at + channel] : 0.299 * pixels[4 * at] + 0.587 * pixels[4 * at + 1] + 0.114 * pixels[4 * at + 2];

export function imageField(name, field) {
  const [height, width] = field.shape.slice(-2), channels = size(field.shape) / (height * width), id = `field-${name}`;
  const file = make("input", { type: "file", id, accept: "image/*", "aria-describedby": `${id}-text` });
  const canvas = make("canvas", { width, height, role: "img", "aria-label": `${name} as it is sent` });
  const said = make("span", { id: `${id}-text`, class: "quiet", role: "status" });
  const array = field.dtype === "uint8" ? new Uint8Array(size(field.shape)) : new Float32Array(size(field.shape));

  function show(text) {
    const context = canvas.getContext("2d"), image = context.createImageData(width, height), area = width * height;
    for (let at = 0; at < area; at += 1) {
      for (let colour = 0; colour < 3; colour += 1) {
        const place = (channels === 3 ? colour : 0) * area + at, { from, to } = range(field, place);
        image.data[4 * at + colour] = (255 * (array[place] - from)) / (to - from || 1);
      }
      image.data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    said.textContent = text;
  }

  function set(kind) {
    file.value = "";
    for (let at = 0; at < array.length; at += 1) array[at] = values[kind](range(field, at));
    show(kind === "random" ? "noise" : "one grey");
  }

  async function read() {
    if (!file.files.length) return;
    let bitmap;
    try {
      bitmap = await createImageBitmap(file.files[0]);
    } catch {
      said.textContent = "this file is no image that the browser can read";
      return;
    }
    const scratch = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
    scratch.drawImage(bitmap, 0, 0, width, height);
    const pixels = scratch.getImageData(0, 0, width, height).data, area = width * height;
    for (let channel = 0; channel < channels; channel += 1) {
      const value = plane(pixels, channel, channels);
      for (let at = 0; at < area; at += 1) {
        const { from, to, isWhole } = range(field, channel * area + at), scaled = from + ((to - from) * value(at)) / 255;
        array[channel * area + at] = isWhole ? Math.round(scaled) : scaled;
      }
    }
    show(`${bitmap.width} × ${bitmap.height} pixels, brought to ${width} × ${height}${channels === 3 || channels === 1 ? "" : `; each of the ${channels} channels gets its brightness`}`);
  }

  file.addEventListener("change", read);
  set("middle");
  const limits = within(range(field, 0), field.unit);
  const label = make("label", { for: id }, name, " ", make("span", { class: "quiet" }, `an image, ${field.shape.join(" × ")}, ${field.dtype}, ${limits}`));
  return { box: make("div", { class: "field image" }, label, canvas, file, said), get: () => ({ base64: base64(new Uint8Array(array.buffer)) }), set, mark: () => file };
}

// Little-endian, as all machines with a browser are.
function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}
