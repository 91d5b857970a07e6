import { describe, expect, it } from 'vitest'
import { addPrompt, giveBack, hold, mount } from '../src/training-form'

describe('addPrompt', () => {
  it('adds a prompt once, with a place for the trigger word', () => {
    const once = addPrompt('a dog, {trigger}\r\n', 'a cat')
    expect(once).toBe('a dog, {trigger}\na cat, {trigger}')
    expect(addPrompt(once, 'a cat')).toBe(once)
    expect(addPrompt('', '{trigger} on a table')).toBe('{trigger} on a table')
  })

  it('adds no more than are drawn', () => {
    expect(addPrompt('1\n2\n3', 'a cat', 3)).toBe('1\n2\n3')
  })
})

describe('the form', () => {
  it('adds a clicked prompt and says that the form changed', () => {
    document.body.innerHTML = `<form><textarea name="prompts"></textarea>
      <div data-prompts hidden><button type="button" data-add-prompt="a cat">a cat</button></div></form>`
    const form = document.querySelector('form') as HTMLFormElement
    let changes = 0
    form.addEventListener('change', () => (changes += 1))
    const undo = mount(form)
    expect(form.querySelector<HTMLElement>('[data-prompts]')?.hidden).toBe(false)
    form.querySelector('button')?.click()
    expect(form.querySelector('textarea')?.value).toBe('a cat, {trigger}')
    expect(changes).toBe(1)
    undo()
    form.querySelector('button')?.click()
    expect(changes).toBe(1)
  })
})

describe('the focus', () => {
  const draw = (value: number): void => {
    const place = document.querySelector('#place') as HTMLElement
    place.innerHTML = `<div class="slider"><input id="rate" type="number" value="${value}"><input type="range" value="${value}"></div>`
  }
  const field = (selector: string): HTMLInputElement => document.querySelector<HTMLInputElement>(selector) as HTMLInputElement

  it('stays where it was, with what is being typed', () => {
    document.body.innerHTML = '<form><div id="place"></div></form>'
    const form = document.querySelector('form') as HTMLFormElement
    draw(1)
    field('#rate').focus()
    field('#rate').value = '12'
    const typed = hold(form)
    draw(3)
    giveBack(typed!)
    expect([document.activeElement, field('#rate').value]).toEqual([field('#rate'), '12'])
  })

  it('takes the new value where nothing was typed', () => {
    document.body.innerHTML = '<form><div id="place"></div></form>'
    const form = document.querySelector('form') as HTMLFormElement
    draw(1)
    field('input[type=range]').focus()
    const held = hold(form)
    draw(3)
    giveBack(held!)
    expect(document.activeElement).toBe(field('input[type=range]'))
    expect(field('#rate').value).toBe('3')
  })
})
