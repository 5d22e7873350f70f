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
  /** Half the extent of what is drawn there. */
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

/** Where a label is drawn, by its middle. */
export interface PlacedLabel {
  readonly point: LabelledPoint;
  readonly x: number;
  readonly y: number;
  /** Whether it lies so far off that a line to its point is needed. */
  readonly isFar: boolean;
}

/**
 * Places labels next to their points, so that none covers another label or a point, or leaves the bounds. Earlier points choose
 * first; a label that fits nowhere is left out.
 */
export function placeLabels(
  points: readonly LabelledPoint[],
  { bounds, obstacles = [], widthOf }: LabelRoom,
): readonly PlacedLabel[] {
  const taken = [...points, ...obstacles].map(({ x, y, radius }) => boxAround(x, y, 2 * radius, 2 * radius));
  return points.flatMap((point): readonly PlacedLabel[] => {
    const width = widthOf(point.label);
    for (const { x, y, isFar } of placesFor(point, width)) {
      const box = boxAround(x, y, width + GAP, LINE_HEIGHT);
      if (!isInside(box, bounds) || taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      return [{ point, x, y, isFar }];
    }
    return [];
  });
}

/** Height of a label of 12 px, and the space between two labels. */
const LINE_HEIGHT = 14;
const GAP = 4;

/** Rings around a point, as far as its label may move. */
const RING_COUNT = 6;

/** Above, below, and to the sides; then the same in wider rings. */
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
