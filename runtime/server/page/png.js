// The texts in a PNG file: https://www.w3.org/TR/png-3/#11textinfo

const SIGNATURE_LENGTH = 8;
const CHUNK_OVERHEAD = 12;

/** The uncompressed texts of a PNG file, by their keywords. */
export function readTexts(buffer) {
  const view = new DataView(buffer);
  const texts = new Map();
  let at = SIGNATURE_LENGTH;
  while (at + CHUNK_OVERHEAD <= buffer.byteLength) {
    const length = view.getUint32(at);
    const data = new Uint8Array(buffer, at + 8, length);
    const type = latin1(new Uint8Array(buffer, at + 4, 4));
    if (type === "tEXt") {
      const end = data.indexOf(0);
      texts.set(latin1(data.subarray(0, end)), latin1(data.subarray(end + 1)));
    } else if (type === "iTXt") {
      const end = data.indexOf(0);
      const language = data.indexOf(0, end + 3);
      const start = data.indexOf(0, language + 1) + 1;
      const compressed = data[end + 1] !== 0;
      if (!compressed) {
        const text = new TextDecoder().decode(data.subarray(start));
        texts.set(latin1(data.subarray(0, end)), text);
      }
    }
    at += CHUNK_OVERHEAD + length;
  }
  return texts;
}

function latin1(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
