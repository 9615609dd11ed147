// Masks: run lengths at the size of the network's input, tinted onto the picture.

const OPACITY = 0.4;

/** Tint the pixels of one instance on the whole canvas. */
export function drawMask(pen, prediction, row, color) {
  const lengths = prediction.instances[row].mask;
  if (!lengths) return;
  const [height, width] = prediction.mask_size;
  const window = pictureWindow(prediction, width, height);
  const { canvas } = pen;
  pen.globalAlpha = OPACITY;
  pen.drawImage(tinted(lengths, width, height, color), ...window, 0, 0, canvas.width, canvas.height);
  pen.globalAlpha = 1;
}

/** Where the picture lies in a mask: x, y, width, height without the padding. */
function pictureWindow(prediction, width, height) {
  if (prediction.details.letterbox === "stretch") return [0, 0, width, height];
  const { image } = prediction;
  const scale = Math.min(width / image.width, height / image.height);
  const [wide, high] = [Math.round(image.width * scale), Math.round(image.height * scale)];
  return [Math.round((width - wide) / 2 - 0.1), Math.round((height - high) / 2 - 0.1), wide, high];
}

/** A canvas with the mask in one colour; the runs go down the columns, background first. */
function tinted(lengths, width, height, color) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));
  const image = new ImageData(width, height);
  let at = 0;
  lengths.forEach((length, run) => {
    if (run % 2 === 1) {
      for (let place = at; place < at + length; place += 1) {
        const pixel = 4 * ((place % height) * width + Math.floor(place / height));
        image.data.set([red, green, blue, 255], pixel);
      }
    }
    at += length;
  });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
