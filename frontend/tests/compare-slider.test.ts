import { describe, expect, it } from 'vitest'
import { nextColumn, pairFor, type SampleLine } from '../src/compare-slider'

const lines: SampleLine[] = [
  { step: 0, label: 'Without LoRA', urls: ['a0', 'b0', null] },
  { step: 20, label: 'Step 20', urls: ['a1', 'b1', 'c1'] },
  { step: 40, label: 'Step 40', urls: ['a2', null, 'c2'] },
]

describe('pairFor', () => {
  it('compares with the picture without the LoRA', () => {
    expect(pairFor(lines, 1, 0)).toEqual({ column: 0, left: 0, right: 1 })
  })

  it('compares the first picture with the last', () => {
    expect(pairFor(lines, 0, 0)).toEqual({ column: 0, left: 0, right: 2 })
  })

  it('takes the first that was drawn where the first row has none', () => {
    expect(pairFor(lines, 2, 2)).toEqual({ column: 2, left: 1, right: 2 })
  })
})

describe('nextColumn', () => {
  it('goes round and skips prompts that one of the two has no picture of', () => {
    expect(nextColumn(lines, { column: 0, left: 0, right: 1 }, 1)).toBe(1)
    expect(nextColumn(lines, { column: 1, left: 0, right: 1 }, 1)).toBe(0)
    expect(nextColumn(lines, { column: 0, left: 1, right: 2 }, -1)).toBe(2)
    expect(nextColumn(lines, { column: 0, left: 0, right: 2 }, 1)).toBe(0)
  })
})
