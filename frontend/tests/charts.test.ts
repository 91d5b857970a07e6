import { describe, expect, it } from 'vitest'
import { align, Curve, figure, smooth, thin } from '../src/charts'

describe('Curve', () => {
  it('keeps one value a step, the newest, in order', () => {
    const curve = new Curve([
      [3, 0.3],
      [1, 0.1],
    ])
    curve.add([
      [3, 0.25],
      [2, 0.2],
      [4, null],
    ])
    expect(curve.entries()).toEqual([
      [1, 0.1],
      [2, 0.2],
      [3, 0.25],
    ])
  })
})

describe('smooth', () => {
  it('leaves values alone without weight and begins at the first value with it', () => {
    expect(smooth([4, 2, 6], 0)).toEqual([4, 2, 6])
    const [first, second] = smooth([4, 2], 0.5)
    expect(first).toBe(4)
    expect(second).toBeCloseTo((0.5 * 0.5 * 4 + 0.5 * 2) / 0.75, 12)
  })
})

describe('thin', () => {
  it('keeps the peak and the trough of a long curve', () => {
    const points = Array.from({ length: 10_000 }, (_, n) => [n, n === 7777 ? 9 : n === 1234 ? -9 : 0] as const)
    const kept = thin(points, 500)
    expect(kept.length).toBeLessThanOrEqual(502)
    expect(kept).toContainEqual([7777, 9])
    expect(kept).toContainEqual([1234, -9])
    expect(kept.map(([n]) => n)).toEqual([...kept.map(([n]) => n)].sort((a, b) => a - b))
  })
})

describe('align', () => {
  it('puts curves of different steps on one axis', () => {
    expect(
      align([
        [
          [1, 5],
          [2, 6],
        ],
        [[2, 7]],
      ]),
    ).toEqual([
      [1, 2],
      [5, 6],
      [null, 7],
    ])
  })
})

describe('figure', () => {
  it('writes as many digits as a value needs', () => {
    expect([0.00012, 0.1, 0.12345, 12.04, 250_000, null].map(figure)).toEqual([
      '1.2e-4',
      '0.1',
      '0.1235',
      '12',
      '2.5e5',
      '–',
    ])
  })
})
