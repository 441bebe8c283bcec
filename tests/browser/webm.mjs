// A video that can be sought in, made of pictures, so that none needs to be kept here: WebM (RFC 8794,
// RFC 9559) with one VP8 key frame a second, each in a cluster of its own, and cues that lead to them.

const id = (hex) => Buffer.from(hex, "hex");
const number = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const double = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
};

// An element, its size always told in eight bytes, so that places are known before they are written.
const element = (name, ...content) => {
  const data = Buffer.concat(content.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE((1n << 56n) | BigInt(data.length));
  return Buffer.concat([id(name), size, data]);
};

// The key frame in a lossy WebP picture: its chunk `VP8 ` (RFC 9649).
const keyFrame = (webp) => {
  for (let at = 12; at < webp.length; ) {
    const size = webp.readUInt32LE(at + 4);
    const chunk = webp.subarray(at + 8, at + 8 + size);
    if (webp.toString("latin1", at, at + 4) === "VP8 ") return chunk;
    at += 8 + size + (size % 2);
  }
  throw new Error("not a lossy WebP picture");
};

/** The video that shows each of `pictures` (WebP, `width` by `height`) for a second. */
export const webm = (pictures, width, height) => {
  const header = element(
    "1a45dfa3",
    element("4282", "webm"),
    element("4287", number(2)),
    element("4285", number(2)),
  );
  const info = element(
    "1549a966",
    element("2ad7b1", number(1_000_000)),
    element("4489", double(1000 * pictures.length)),
    element("4d80", "test"),
    element("5741", "test"),
  );
  const tracks = element(
    "1654ae6b",
    element(
      "ae",
      element("d7", number(1)),
      element("73c5", number(1)),
      element("83", number(1)),
      element("86", "V_VP8"),
      element("e0", element("b0", number(width)), element("ba", number(height))),
    ),
  );
  const clusters = pictures.map((picture, second) =>
    element(
      "1f43b675",
      element("e7", number(1000 * second)),
      element("a3", Buffer.from([0x81, 0, 0, 0x80]), keyFrame(picture)),
    ),
  );
  const cues = (places) =>
    element(
      "1c53bb6b",
      ...places.map((place, second) =>
        element(
          "bb",
          element("b3", number(1000 * second)),
          element("b7", element("f7", number(1)), element("f1", number(place))),
        ),
      ),
    );
  let place = info.length + tracks.length + cues(clusters.map(() => 0)).length;
  const places = clusters.map((cluster) => (place += cluster.length) - cluster.length);
  return Buffer.concat([header, element("18538067", info, tracks, cues(places), ...clusters)]);
};
