import { beforeEach, describe, expect, it, vi } from 'vitest'
import { countOn } from '../src/spans'

describe('the time a training has been running', () => {
  beforeEach(() => {
    vi.restoreAllMocks()
    document.body.dataset.textSeconds = '{n} s'
    document.body.dataset.textMinutes = '{n} min'
    document.body.innerHTML = '<main><b data-seconds="50">50 s</b></main>'
  })

  it('goes on from what the server wrote, by the clock of the browser', () => {
    const page = document.querySelector('main') as HTMLElement
    const now = vi.spyOn(performance, 'now')
    now.mockReturnValue(7000)
    countOn(page)
    expect(page.textContent).toBe('50 s')
    now.mockReturnValue(15_900)
    countOn(page)
    expect(page.textContent).toBe('59 s')
    now.mockReturnValue(77_000)
    countOn(page)
    expect(page.textContent).toBe('2 min')
  })

  it('leaves a page alone that has none', () => {
    document.body.innerHTML = '<main>Done</main>'
    countOn(document.querySelector('main') as HTMLElement)
    expect(document.body.textContent).toBe('Done')
  })
})
