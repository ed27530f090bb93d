// Makes pictures fit for upload: big ones are scaled down here, so that a phone's photo of 12 megapixels does not
// travel whole. A picture that is small enough goes as it is, byte by byte: its score is that of the file.

const MOST_PIXELS = 2_000_000;
const JPEG_QUALITY = 0.92;
const SENT_AS_THEY_ARE = new Set(["image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff", "image/gif"]);

/** Most images of one person in a search. */
export const MOST_IMAGES = 8;

/**
 * Take the images out of what was dropped, pasted or chosen.
 *
 * @param {FileList | DataTransfer | null | undefined} given
 * @returns {File[]}
 */
export function imagesOf(given) {
  const files = given instanceof FileList ? given : given?.files;
  return [...(files ?? [])].filter((file) => file.type.startsWith("image/") || file.type === "");
}

/**
 * Scale a picture down to at most two megapixels, turned as its EXIF data say.
 *
 * @param {File} file
 * @returns {Promise<File>} the file itself if it is small enough, or if this browser cannot read it: then the service
 *     says what is wrong.
 */
export async function scaled(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return file;
  }
  try {
    const pixels = bitmap.width * bitmap.height;
    if (pixels <= MOST_PIXELS && SENT_AS_THEY_ARE.has(file.type)) return file;
    const scale = Math.min(1, Math.sqrt(MOST_PIXELS / pixels));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
    canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
    const context = canvas.getContext("2d");
    if (!context) return file;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    /** @type {Blob | null} */
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
    return blob ? new File([blob], file.name.replace(/\.\w+$/, "") + ".jpg", { type: "image/jpeg" }) : file;
  } finally {
    bitmap.close();
  }
}

/**
 * The body of a search by images.
 *
 * @param {File[]} files
 * @returns {Promise<FormData>}
 */
export async function uploadForm(files) {
  const form = new FormData();
  for (const file of await Promise.all(files.map(scaled))) form.append("images", file, file.name || "image.jpg");
  return form;
}
