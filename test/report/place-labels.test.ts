import { type Box, type LabelledPoint, placeLabels } from '../../src/report/page/place-labels.js';

const HEIGHT = 14;
const widthOf = (text: string) => 7.5 * text.length;

/** Points of a ladder whose sparsities lie close together, and the dense model's far off. */
function closeLadder(count: number, width: number): LabelledPoint[] {
  const spread = 0.15 * width;
  const rungs = Array.from({ length: count }, (_, at) => ({
    x: 60 + (spread * at) / (count - 1),
    y: 60 + (20 * at) / (count - 1),
    radius: at === 0 ? 8 : 5,
    label: `${33 - at} %`,
  }));
  return [...rungs, { x: width - 30, y: 240, radius: 6, label: 'dense' }];
}

const boundsOf = (width: number): Box => ({ left: 48, top: 16, right: width, bottom: 264 });

const boxOf = ({ x, y, point }: ReturnType<typeof placeLabels>[number]): Box => ({
  left: x - widthOf(point.label) / 2,
  right: x + widthOf(point.label) / 2,
  top: y - HEIGHT / 2,
  bottom: y + HEIGHT / 2,
});

const overlap = (one: Box, other: Box): boolean =>
  one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;

const sizes = [300, 880].flatMap((width) => [3, 4, 5, 6, 7, 8, 9].map((count) => [count, width] as const));

it.each(sizes)('places labels of %d rungs on %d px without overlaps', (count, width) => {
  const points = closeLadder(count, width);
  const bounds = boundsOf(width);
  const placed = placeLabels(points, { bounds, widthOf });
  expect(placed.map(({ point }) => point.label)).toEqual(points.map(({ label }) => label));
  const boxes = placed.map(boxOf);
  const marks = points.map(({ x, y, radius }) => ({
    left: x - radius,
    right: x + radius,
    top: y - radius,
    bottom: y + radius,
  }));
  boxes.forEach((box, at) => {
    expect([...boxes.slice(0, at), ...marks].filter((other) => overlap(box, other))).toEqual([]);
    expect(box.left).toBeGreaterThanOrEqual(bounds.left);
    expect(box.right).toBeLessThanOrEqual(bounds.right);
    expect(box.top).toBeGreaterThanOrEqual(bounds.top);
    expect(box.bottom).toBeLessThanOrEqual(bounds.bottom);
  });
});

it('places a single label above its point', () => {
  const [placed] = placeLabels([{ x: 100, y: 100, radius: 5, label: '30 %' }], { bounds: boundsOf(300), widthOf });
  expect(placed).toMatchObject({ x: 100, isFar: false });
  expect(placed!.y).toBeLessThan(95);
});

it('avoids obstacles, and omits labels that fit nowhere', () => {
  const point = { x: 100, y: 100, radius: 5, label: '30 %' };
  const above = { x: 100, y: 86, radius: 3 };
  const [placed] = placeLabels([point], { bounds: boundsOf(300), obstacles: [above], widthOf });
  expect(placed!.y).toBeGreaterThan(100);
  expect(placeLabels([point], { bounds: { left: 95, right: 105, top: 95, bottom: 105 }, widthOf })).toEqual([]);
});
