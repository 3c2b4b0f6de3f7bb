// Strokes of a brush, in pixels of the picture: {points, width, erases}; or {clears: true}.

const OPAQUE = 128;

/** Those strokes that are seen: what was there before the last clearing is not. */
export function seenStrokes(strokes) {
  return strokes.slice(strokes.findLastIndex((stroke) => stroke.clears) + 1);
}

export function drawStroke(context, { points, width, erases }, colour) {
  context.save();
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  const [first, ...others] = points;
  context.beginPath();
  context.arc(first.x, first.y, width / 2, 0, 2 * Math.PI);
  context.fill();
  context.beginPath();
  context.moveTo(first.x, first.y);
  for (const { x, y } of others) context.lineTo(x, y);
  context.stroke();
  context.restore();
}

/** A canvas that is white where it is painted and black elsewhere; null with nothing painted. */
export function maskOf(strokes, width, height) {
  const [painted, flat] = [0, 1].map(() => Object.assign(document.createElement("canvas"), {
    width, height,
  }));
  const brush = painted.getContext("2d");
  for (const stroke of seenStrokes(strokes)) drawStroke(brush, stroke, "#fff");
  const { data } = brush.getImageData(0, 0, width, height);
  if (!data.some((value, i) => i % 4 === 3 && value >= OPAQUE)) return null;
  const context = flat.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.drawImage(painted, 0, 0);
  return flat;
}
