import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { startDialogs } from '../src/frame/dialogs'
import { setSlider, startForms } from '../src/frame/forms'
import { startMenus } from '../src/frame/menus'
import { mountModules, unmountModules } from '../src/frame/mount'
import { distance, startPalette } from '../src/frame/palette'
import { errorSentence } from '../src/frame/problems'
import { text } from '../src/frame/text'
import { setTheme } from '../src/frame/theme'
import { startToasts, toast } from '../src/frame/toasts'

startMenus()
startDialogs()
startForms()

const element = (selector: string) => document.querySelector(selector) as HTMLElement
const key = (name: string) => new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true })

beforeEach(() => {
  document.body.innerHTML = ''
  document.body.setAttribute('data-text-close', 'Close')
  document.body.setAttribute('data-text-nothing-found', 'Nothing')
})
afterEach(() => vi.useRealTimers())

describe('text', () => {
  it('comes from the nearest element that has it, with values filled in', () => {
    document.body.innerHTML = '<div data-text-left="{n} of {all} left"><b></b></div>'
    expect(text('left', { n: 3, all: 8 }, element('b'))).toBe('3 of 8 left')
    expect(text('close')).toBe('Close')
  })
})

describe('page modules', () => {
  it('are mounted once and undone when their element goes', async () => {
    const undo = vi.fn()
    const mount = vi.fn(() => undo)
    const registry = { live: async () => ({ mount }) }
    document.body.innerHTML = '<section><div data-module="live"></div></section>'
    await Promise.all([mountModules(document, registry), mountModules(document, registry)])
    expect(mount).toHaveBeenCalledExactlyOnceWith(element('[data-module]'))
    unmountModules(element('[data-module]'))
    expect(undo).toHaveBeenCalledOnce()
  })

  it('are not mounted on an element that went while they were loading', async () => {
    let arrive: (module: { mount: () => () => void }) => void = () => undefined
    const mount = vi.fn(() => () => undefined)
    document.body.innerHTML = '<div data-module="live"></div>'
    const waiting = mountModules(document, { live: () => new Promise((resolve) => (arrive = resolve)) })
    unmountModules(element('[data-module]'))
    arrive({ mount })
    await waiting
    expect(mount).not.toHaveBeenCalled()
  })
})

describe('menus', () => {
  const html = `<details class="menu"><summary>More</summary><div>
    <button class="menu-item" id="a">A</button><button class="menu-item" id="b">B</button></div></details><p></p>`

  it('open with the arrow keys, go round, and give the focus back on Escape', () => {
    document.body.innerHTML = html
    const menu = element('details') as HTMLDetailsElement
    element('summary').focus()
    element('summary').dispatchEvent(key('ArrowDown'))
    expect(menu.open).toBe(true)
    expect(document.activeElement?.id).toBe('a')
    element('#a').dispatchEvent(key('ArrowUp'))
    expect(document.activeElement?.id).toBe('b')
    element('#b').dispatchEvent(key('Escape'))
    expect(menu.open).toBe(false)
    expect(document.activeElement).toBe(element('summary'))
  })

  it('close when something outside or an item is clicked', () => {
    document.body.innerHTML = html
    const menu = element('details') as HTMLDetailsElement
    menu.open = true
    element('p').click()
    expect(menu.open).toBe(false)
    menu.open = true
    element('#a').click()
    expect(menu.open).toBe(false)
  })
})

describe('a question before a form', () => {
  const html = `<form data-confirm="sure"><button type="submit">Go</button></form>
    <dialog id="sure"><button type="button" data-dialog-close id="no">No</button><button type="button" data-dialog-confirm id="yes">Yes</button></dialog>`
  const submit = () => element('form').dispatchEvent(new SubmitEvent('submit', { bubbles: true, cancelable: true }))

  it('stops the form until it is answered with yes', () => {
    document.body.innerHTML = html
    const form = element('form') as HTMLFormElement
    form.requestSubmit = vi.fn()
    expect(submit()).toBe(false)
    expect((element('#sure') as HTMLDialogElement).open).toBe(true)
    element('#yes').click()
    expect(form.requestSubmit).toHaveBeenCalledOnce()
    expect(submit()).toBe(true)
  })

  it('sends nothing after no', () => {
    document.body.innerHTML = html
    const form = element('form') as HTMLFormElement
    form.requestSubmit = vi.fn()
    submit()
    element('#no').click()
    expect((element('#sure') as HTMLDialogElement).open).toBe(false)
    expect(form.requestSubmit).not.toHaveBeenCalled()
  })
})

describe('a question before one button of a form', () => {
  it('is asked for that button only, and sends the form with it', () => {
    document.body.innerHTML = `<form><button type="submit" id="keep">Keep</button><button type="submit" id="drop" data-confirm="sure">Drop</button></form>
      <dialog id="sure"><button type="button" data-dialog-confirm id="yes">Yes</button></dialog>`
    const form = element('form') as HTMLFormElement
    form.requestSubmit = vi.fn()
    const submit = (id: string) => {
      const submitter = element(id)
      return form.dispatchEvent(new SubmitEvent('submit', { submitter, bubbles: true, cancelable: true }))
    }
    expect(submit('#drop')).toBe(false)
    expect((element('#sure') as HTMLDialogElement).open).toBe(true)
    element('#yes').click()
    expect(form.requestSubmit).toHaveBeenCalledExactlyOnceWith(element('#drop'))
    document.body.replaceChildren(form)
    expect(submit('#keep')).toBe(true)
  })
})

describe('copying', () => {
  const copy = () => {
    document.body.setAttribute('data-text-copied', 'Copied')
    document.body.innerHTML = '<code id="key"> lf_1 </code><button data-copy="key"><span data-copy-label>Copy</span></button>'
    return () => {
      element('button').click()
      return vi.advanceTimersByTimeAsync(0)
    }
  }
  const clipboard = (value: unknown) => Object.defineProperty(navigator, 'clipboard', { value, configurable: true })

  it('says so for a moment, however often the button is pressed', async () => {
    vi.useFakeTimers()
    const writeText = vi.fn(async () => undefined)
    clipboard({ writeText })
    const press = copy()
    await press()
    expect(writeText).toHaveBeenCalledWith('lf_1')
    await vi.advanceTimersByTimeAsync(1000)
    await press()
    expect(element('[data-copy-label]').textContent).toBe('Copied')
    await vi.advanceTimersByTimeAsync(1000)
    expect(element('[data-copy-label]').textContent).toBe('Copied')
    await vi.advanceTimersByTimeAsync(1000)
    expect(element('[data-copy-label]').textContent).toBe('Copy')
  })

  it.each([
    [true, 'Copied'],
    [false, 'Copy'],
  ])('works in the old way where there is no clipboard, and leaves the text selected (%s)', async (works, label) => {
    vi.useFakeTimers()
    clipboard(undefined)
    document.execCommand = vi.fn(() => works)
    await copy()()
    expect(document.execCommand).toHaveBeenCalledWith('copy')
    expect(getSelection()?.toString().trim()).toBe('lf_1')
    expect(element('[data-copy-label]').textContent).toBe(label)
  })
})

describe('dialogs', () => {
  it('open at their first field', () => {
    document.body.innerHTML = `<button data-dialog-open="ask">Open</button><dialog id="ask">
      <button data-dialog-close id="x">x</button><div class="dialog-body"><input type="hidden"><input id="first"></div></dialog>`
    element('button').click()
    expect((element('#ask') as HTMLDialogElement).open).toBe(true)
    expect(document.activeElement?.id).toBe('first')
    element('#x').click()
    expect((element('#ask') as HTMLDialogElement).open).toBe(false)
  })
})

describe('forms', () => {
  it('are sent once, unless they say otherwise', () => {
    document.body.innerHTML = '<form id="once"></form><form id="again" data-again></form>'
    const send = (id: string) => element(id).dispatchEvent(new SubmitEvent('submit', { bubbles: true, cancelable: true }))
    expect([send('#once'), send('#once')]).toEqual([true, false])
    expect([send('#again'), send('#again')]).toEqual([true, true])
  })
})

describe('sliders', () => {
  const html = `<div class="slider"><input type="number" value="16"><input type="range" min="4" max="128" step="4" value="16">
    <button type="button" data-recommended="24">24</button></div>`

  it('keep the number, the range and the drawn share together', () => {
    document.body.innerHTML = html
    const range = element('[type=range]') as HTMLInputElement
    range.value = '64'
    range.dispatchEvent(new Event('input', { bubbles: true }))
    expect((element('[type=number]') as HTMLInputElement).value).toBe('64')
    expect(element('.slider').style.getPropertyValue('--value')).toBe('64')
  })

  it('draw a number beyond the range at its end and leave the number as it was typed', () => {
    document.body.innerHTML = html
    const number = element('[type=number]') as HTMLInputElement
    number.value = '500'
    setSlider(element('.slider'), number.value, number)
    expect(number.value).toBe('500')
    expect(element('.slider').style.getPropertyValue('--value')).toBe('128')
  })

  it('take the recommended value and tell the form', () => {
    document.body.innerHTML = html
    const changed = vi.fn()
    element('.slider').addEventListener('change', changed)
    element('button').click()
    expect((element('[type=number]') as HTMLInputElement).value).toBe('24')
    expect(changed).toHaveBeenCalledOnce()
  })
})

describe('toasts', () => {
  it('show words as words, leave after a while, and errors stay', () => {
    vi.useFakeTimers()
    document.body.innerHTML = '<div id="toasts"></div>'
    startToasts()
    toast('<b>Saved</b>')
    toast('It broke', 'failed')
    expect([...document.querySelectorAll('.toast p')].map((p) => p.textContent)).toEqual(['<b>Saved</b>', 'It broke'])
    vi.advanceTimersByTime(6001)
    expect([...document.querySelectorAll('.toast p')].map((p) => p.textContent)).toEqual(['It broke'])
    element('.toast [data-dismiss]').click()
    expect(document.querySelectorAll('.toast').length).toBe(0)
  })
})

describe('the sentence of a failed request', () => {
  it('is found in problem documents and in error pages', () => {
    expect(errorSentence('{"detail": "Too many."}', 'application/problem+json')).toBe('Too many.')
    expect(errorSentence('<p data-error-message> Not yours. </p>', 'text/html')).toBe('Not yours.')
    expect(errorSentence('<h1>Bad gateway</h1>', 'text/html')).toBeNull()
    expect(errorSentence('{"broken', 'application/json')).toBeNull()
  })
})

describe('the theme', () => {
  it('is shown at once and remembered', () => {
    setTheme('dark')
    expect(document.documentElement.dataset.theme).toBe('dark')
    expect(document.cookie).toContain('theme=dark')
    setTheme('system')
    expect(document.documentElement.dataset.theme).toBeUndefined()
    expect(document.cookie).toContain('theme=system')
  })
})

describe('Ctrl-K', () => {
  it('prefers names that begin with the words, in any script, over scattered letters', () => {
    expect(distance('se', 'Settings')).toBe(0)
    expect(distance('mo', 'Base models')).toBe(1)
    expect(distance('模型', '我的模型')).toBe(2)
    expect(distance('prj', 'Projects')).toBe(3)
    expect(distance('jp', 'Projects')).toBeNull()
  })

  it('lists the places of the page and narrows them down', () => {
    document.body.innerHTML = `<aside id="rail"><a href="/a/">Projects</a><a href="/b/">Models</a></aside>
      <dialog id="palette"><input><div role="listbox"></div></dialog>`
    startPalette()
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', ctrlKey: true, bubbles: true }))
    const dialog = element('#palette') as HTMLDialogElement
    expect(dialog.open).toBe(true)
    dialog.dispatchEvent(new Event('toggle'))
    const names = () => [...document.querySelectorAll('[role=option]')].map((link) => link.textContent)
    expect(names()).toEqual(['Projects', 'Models'])
    const input = element('#palette input') as HTMLInputElement
    input.value = 'mod'
    input.dispatchEvent(new Event('input'))
    expect(names()).toEqual(['Models'])
    input.value = 'zzz'
    input.dispatchEvent(new Event('input'))
    expect(element('[role=listbox]').textContent).toBe('Nothing')
  })
})
