/** The loss chart: raw line faint, smoothed line strong, checkpoints as ticks, both themes. */

import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { colour, onThemeChange } from './frame/theme'

/** Points of one curve by step: a step that comes again (after a resume) replaces its value. */
export class Curve {
  private readonly points = new Map<number, number>()
  private sorted: Array<[number, number]> | null = null

  constructor(points: Iterable<readonly [number, number]> = []) {
    this.add(points)
  }

  add(points: Iterable<readonly [number, number | null]>): void {
    for (const [step, value] of points) if (value !== null) this.points.set(step, value)
    this.sorted = null
  }

  get size(): number {
    return this.points.size
  }

  entries(): ReadonlyArray<readonly [number, number]> {
    this.sorted ??= [...this.points].sort((a, b) => a[0] - b[0])
    return this.sorted
  }
}

/**
 * Smooth with an exponential moving average of `weight` (0 leaves the values, 0.99 is very smooth).
 * The start is corrected for its short history, so that the line begins at the first value.
 */
export function smooth(values: readonly number[], weight: number): number[] {
  let sum = 0
  let mass = 0
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value
    mass = weight * mass + (1 - weight)
    return sum / mass
  })
}

/** Thin a curve to about `most` points, keeping the smallest and largest of every stretch: peaks stay visible. */
export function thin(
  points: ReadonlyArray<readonly [number, number]>,
  most: number,
): ReadonlyArray<readonly [number, number]> {
  if (points.length <= most) return points
  const stretch = Math.ceil((points.length * 2) / most)
  const kept: Array<readonly [number, number]> = []
  for (let start = 0; start < points.length; start += stretch) {
    const part = points.slice(start, start + stretch)
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a))
    const high = part.reduce((a, b) => (b[1] > a[1] ? b : a))
    kept.push(...(low === high ? [low] : [low, high].sort((a, b) => a[0] - b[0])))
  }
  return kept
}

/** Put several curves on one x axis: [steps, values of each curve or null where it has no point]. */
export function align(curves: ReadonlyArray<ReadonlyArray<readonly [number, number]>>): uPlot.AlignedData {
  const steps = [...new Set(curves.flatMap((curve) => curve.map(([step]) => step)))].sort((a, b) => a - b)
  const at = new Map(steps.map((step, index) => [step, index]))
  const rows = curves.map((curve) => {
    const row: Array<number | null> = new Array<number | null>(steps.length).fill(null)
    for (const [step, value] of curve) row[at.get(step) as number] = value
    return row
  })
  return [steps, ...rows] as uPlot.AlignedData
}

/** Write a value of a curve with as many digits as it needs. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  const size = Math.abs(value)
  if (size !== 0 && (size < 0.001 || size >= 100_000)) return value.toExponential(1).replace('e+', 'e')
  return size < 10 ? value.toFixed(4).replace(/0+$/, '').replace(/\.$/, '') : value.toFixed(1).replace(/\.0$/, '')
}

export interface Marks {
  checkpoints: number[]
  samples: number[]
}

export interface ChartLabels {
  step: string
  raw: string
  smoothed: string
  heldOut: string
}

const MOST_POINTS = 1500
const HEIGHT = 280

/** Draw one metric of a run; `draw` is cheap enough to be called four times a second. */
export class MetricChart {
  private plot: uPlot | null = null
  private readonly watch: ResizeObserver
  private readonly forgetTheme: () => void
  private last: { main: Curve; heldOut: Curve | null } | null = null
  private logScale = false
  weight = 0.9

  constructor(
    private readonly element: HTMLElement,
    private readonly labels: ChartLabels,
    private readonly marks: Marks,
  ) {
    this.watch = new ResizeObserver(() => {
      this.plot?.setSize({ width: this.element.clientWidth, height: HEIGHT })
    })
    this.watch.observe(element)
    // Colours are read when the plot is made: another theme makes another plot.
    this.forgetTheme = onThemeChange(this.remake)
  }

  setLog(on: boolean): void {
    this.logScale = on
    this.remake()
  }

  draw(main: Curve, heldOut: Curve | null): void {
    const kind = this.last && (this.last.heldOut === null) !== (heldOut === null)
    this.last = { main, heldOut }
    if (kind) this.forget()
    if (!this.element.clientWidth) return
    const data = this.data()
    if (this.plot) this.plot.setData(data)
    else this.make(data)
  }

  /** Forget the drawn metric; the next `draw` makes a new plot with scales of its own. */
  clear(): void {
    this.last = null
    this.forget()
  }

  destroy(): void {
    this.watch.disconnect()
    this.forgetTheme()
    this.forget()
  }

  private readonly remake = (): void => {
    this.forget()
    if (this.last) this.draw(this.last.main, this.last.heldOut)
  }

  private forget(): void {
    this.plot?.destroy()
    this.plot = null
  }

  private data(): uPlot.AlignedData {
    const { main, heldOut } = this.last as { main: Curve; heldOut: Curve | null }
    const raw = thin(main.entries(), MOST_POINTS)
    const values = smooth(
      main.entries().map(([, value]) => value),
      this.weight,
    )
    const all = main.entries().map(([step], index) => [step, values[index] as number] as const)
    const kept = new Set(raw.map(([step]) => step))
    const smoothed = all.filter(([step]) => kept.has(step))
    return align(heldOut ? [raw, smoothed, heldOut.entries()] : [raw, smoothed])
  }

  private make(data: uPlot.AlignedData): void {
    const [faint, strong, second, grid, label, tick] = [
      colour('--line-strong'),
      colour('--accent-text'),
      colour('--warn'),
      colour('--line'),
      colour('--muted'),
      colour('--faint'),
    ]
    const font = `12px ${getComputedStyle(document.body).fontFamily}`
    const axis = { stroke: label, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } }
    const show = (_: uPlot, value: number | null): string => figure(value)
    const options: uPlot.Options = {
      width: this.element.clientWidth,
      height: HEIGHT,
      legend: { live: true },
      cursor: { points: { size: 7 }, focus: { prox: 24 } },
      scales: { x: { time: false }, y: this.logScale ? { distr: 3 } : {} },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((n) => (Number.isInteger(n) ? String(n) : '')) },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((n) => (n === null ? '' : figure(n))) },
      ],
      series: [
        { label: this.labels.step, value: show },
        { label: this.labels.raw, stroke: faint, width: 1, points: { show: false }, value: show, spanGaps: true },
        { label: this.labels.smoothed, stroke: strong, width: 2, points: { show: false }, value: show, spanGaps: true },
        ...(data.length > 3
          ? [{ label: this.labels.heldOut, stroke: second, width: 1.5, points: { size: 6 }, value: show, spanGaps: true }]
          : []),
      ],
      hooks: { draw: [(plot) => this.drawMarks(plot, strong, tick)] },
    }
    this.plot = new uPlot(options, data, this.element)
  }

  /** Checkpoints are ticks on the upper edge, samples dots on the lower one. */
  private drawMarks(plot: uPlot, strong: string, faint: string): void {
    const { ctx, bbox } = plot
    const ratio = uPlot.pxRatio
    ctx.save()
    for (const step of this.marks.checkpoints) {
      const x = plot.valToPos(step, 'x', true)
      if (x < bbox.left || x > bbox.left + bbox.width) continue
      ctx.fillStyle = strong
      ctx.fillRect(x - ratio, bbox.top, 2 * ratio, 9 * ratio)
    }
    for (const step of this.marks.samples) {
      const x = plot.valToPos(step, 'x', true)
      if (x < bbox.left || x > bbox.left + bbox.width) continue
      ctx.fillStyle = faint
      ctx.beginPath()
      ctx.arc(x, bbox.top + bbox.height - 5 * ratio, 2.5 * ratio, 0, 2 * Math.PI)
      ctx.fill()
    }
    ctx.restore()
  }
}
