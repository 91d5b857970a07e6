import { describe, expect, it } from 'vitest'
import { bytes, isPossible, reason, words } from '../src/passkey'

describe('base64url', () => {
  it('reads what it writes, whatever the padding', () => {
    for (const length of [0, 1, 2, 3, 32, 65]) {
      const all = Uint8Array.from({ length }, (_, n) => (n * 37 + 251) % 256)
      expect([...bytes(words(all.buffer))]).toEqual([...all])
      expect(words(all.buffer)).toMatch(/^[\w-]*$/)
    }
  })
  it('knows the two letters that differ from base64', () => {
    expect(words(Uint8Array.of(251, 239, 190, 255).buffer)).toBe('----_w')
  })
})

describe('what people are told', () => {
  const named = (name: string) => Object.assign(new Error(), { name })
  it('names the cause that the browser gives', () => {
    expect(reason(named('InvalidStateError'))).toBe('passkey-known')
    expect(reason(named('SecurityError'))).toBe('passkey-impossible')
    expect(reason(named('NotAllowedError'))).toBe('passkey-stopped')
    expect(reason(null)).toBe('passkey-stopped')
  })
  it('offers keys only where browsers bind them: to a name', () => {
    Object.assign(window, { PublicKeyCredential: class {} })
    expect(['foundry.example.org', 'localhost'].map(isPossible)).toEqual([true, true])
    expect(['127.0.0.1', '[::1]', '::1'].map(isPossible)).toEqual([false, false, false])
  })
})
