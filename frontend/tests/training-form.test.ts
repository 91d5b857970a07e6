import { describe, expect, it } from 'vitest'
import { addPrompt, mount } from '../src/training-form'

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
