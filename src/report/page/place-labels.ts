/** A rectangle in pixels, by its corners. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** A point of a plot that has a label, in pixels. */
export interface LabelledPoint {
  readonly x: number;
  readonly y: number;
  /** Radius of the dot. */
  readonly radius: number;
  readonly label: string;
}

/** Space for labels. */
export interface LabelRoom {
  readonly bounds: Box;
  /** Other points that no label may cover. */
  readonly obstacles?: readonly Omit<LabelledPoint, 'label'>[];
  /** Width of a text in pixels. */
  readonly widthOf: (text: string) => number;
}

/** Position of a label's center. */
export interface PlacedLabel {
  readonly point: LabelledPoint;
  readonly x: number;
  readonly y: number;
  /** Whether it is far from its point, so that a line joins them. */
  readonly isFar: boolean;
}

/**
 * Places labels next to their points, in the order of points, so that they cover neither labels nor points, and are inside the
 * bounds. Labels that fit nowhere are omitted.
 */
export function placeLabels(
  points: readonly LabelledPoint[],
  { bounds, obstacles = [], widthOf }: LabelRoom,
): readonly PlacedLabel[] {
  const occupied = [...points, ...obstacles].map(({ x, y, radius }) => boxAround(x, y, 2 * radius, 2 * radius));
  return points.flatMap((point): readonly PlacedLabel[] => {
    const width = widthOf(point.label);
    for (const { x, y, isFar } of placesFor(point, width)) {
      const box = boxAround(x, y, width + GAP, LINE_HEIGHT);
      if (!isInside(box, bounds) || occupied.some((other) => overlap(box, other))) continue;
      occupied.push(box);
      return [{ point, x, y, isFar }];
    }
    return [];
  });
}

/** Height of a label of 12 px, and the space between two labels. */
const LINE_HEIGHT = 14;
const GAP = 4;

/** Number of rings of positions around a point. */
const RING_COUNT = 6;

/** Positions around a point, nearest first: above, below, at the sides, at the corners; then in wider rings. */
function placesFor({ x, y, radius }: LabelledPoint, width: number): readonly Omit<PlacedLabel, 'point'>[] {
  const across = radius + GAP + width / 2;
  return Array.from({ length: RING_COUNT }, (_, ring) => {
    const up = radius + GAP / 2 + LINE_HEIGHT * (ring + 0.5);
    const isFar = ring > 0;
    const near = [
      { x: x + across, y, isFar },
      { x: x - across, y, isFar },
    ];
    return [
      { x, y: y - up, isFar },
      { x, y: y + up, isFar },
      ...(isFar ? [] : near),
      { x: x + across, y: y - up, isFar },
      { x: x - across, y: y - up, isFar },
      { x: x + across, y: y + up, isFar },
      { x: x - across, y: y + up, isFar },
    ];
  }).flat();
}

const boxAround = (x: number, y: number, width: number, height: number): Box => ({
  left: x - width / 2,
  right: x + width / 2,
  top: y - height / 2,
  bottom: y + height / 2,
});

const isInside = (box: Box, bounds: Box): boolean =>
  box.left >= bounds.left && box.right <= bounds.right && box.top >= bounds.top && box.bottom <= bounds.bottom;

const overlap = (one: Box, other: Box): boolean =>
  one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
