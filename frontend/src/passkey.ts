/** Security keys and passkeys: ask the browser, put its answer into the form, send the form. */

import { text } from './frame/text'

type Ceremony = 'create' | 'get' | 'login'

interface Descriptor { type: PublicKeyCredentialType, id: string, transports?: AuthenticatorTransport[] }
type CreationJson = Omit<PublicKeyCredentialCreationOptions, 'challenge' | 'user' | 'excludeCredentials'> & {
  challenge: string
  user: { id: string, name: string, displayName: string }
  excludeCredentials?: Descriptor[]
}
type RequestJson = Omit<PublicKeyCredentialRequestOptions, 'challenge' | 'allowCredentials'> & {
  challenge: string
  allowCredentials?: Descriptor[]
}

export function mount(element: HTMLElement): () => void {
  const form = element as HTMLFormElement
  const ceremony = (form.dataset.passkey ?? 'get') as Ceremony
  const stopping = new AbortController()
  if (isPossible(location.hostname)) form.hidden = false
  else if (ceremony !== 'login') refuse(form)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    void run(form, ceremony, stopping.signal)
  }, { signal: stopping.signal })
  return () => stopping.abort()
}

/** Tell whether keys work here: browsers bind them to a name, and an address of numbers is none. */
export function isPossible(host: string): boolean {
  return 'PublicKeyCredential' in window && !/^[\d.]+$|:/.test(host)
}

/** Say beforehand that no key can come of this. */
function refuse(form: HTMLFormElement): void {
  say(form, text('passkey-impossible', {}, form))
  const button = form.querySelector<HTMLButtonElement>('button[type=submit]')
  if (button) button.disabled = true
}

async function run(form: HTMLFormElement, ceremony: Ceremony, signal: AbortSignal): Promise<void> {
  const button = form.querySelector<HTMLButtonElement>('button[type=submit]')
  button?.setAttribute('aria-busy', 'true')
  say(form, '')
  try {
    const field = form.elements.namedItem('credential') as HTMLInputElement
    const credential = ceremony === 'create' ? await create(form, signal) : await get(form, ceremony, signal)
    field.value = JSON.stringify(credential)
    form.submit()
  } catch (error) {
    button?.removeAttribute('aria-busy')
    if (!signal.aborted) say(form, text(reason(error), {}, form))
  }
}

/** Return the name of the text that says why the browser brought no key. */
export function reason(error: unknown): string {
  const name = error instanceof Error ? error.name : ''
  if (name === 'InvalidStateError') return 'passkey-known'
  if (name === 'SecurityError' || name === 'NotSupportedError') return 'passkey-impossible'
  return 'passkey-stopped'
}

async function create(form: HTMLFormElement, signal: AbortSignal): Promise<object> {
  const json = (data(form) as { creation_options: { publicKey: CreationJson } }).creation_options.publicKey
  const isPasskey = (form.elements.namedItem('passwordless') as HTMLInputElement | null)?.checked ?? false
  const publicKey: PublicKeyCredentialCreationOptions = {
    ...json,
    challenge: bytes(json.challenge),
    user: { ...json.user, id: bytes(json.user.id) },
    excludeCredentials: json.excludeCredentials?.map(descriptor) ?? [],
    authenticatorSelection: {
      ...json.authenticatorSelection,
      residentKey: isPasskey ? 'required' : 'discouraged',
      requireResidentKey: isPasskey,
      ...(isPasskey && { userVerification: 'required' as const }),
    },
  }
  const made = await navigator.credentials.create({ publicKey, signal }) as PublicKeyCredential
  const response = made.response as AuthenticatorAttestationResponse
  return described(made, {
    clientDataJSON: words(response.clientDataJSON),
    attestationObject: words(response.attestationObject),
    transports: response.getTransports(),
  })
}

async function get(form: HTMLFormElement, ceremony: Ceremony, signal: AbortSignal): Promise<object> {
  const given = ceremony === 'login' ? await ask(form.action, signal) : data(form)
  const json = (given as { request_options: { publicKey: RequestJson } }).request_options.publicKey
  const publicKey = {
    ...json,
    challenge: bytes(json.challenge),
    allowCredentials: json.allowCredentials?.map(descriptor) ?? [],
  }
  const shown = await navigator.credentials.get({ publicKey, signal }) as PublicKeyCredential
  const response = shown.response as AuthenticatorAssertionResponse
  return described(shown, {
    clientDataJSON: words(response.clientDataJSON),
    authenticatorData: words(response.authenticatorData),
    signature: words(response.signature),
    userHandle: response.userHandle ? words(response.userHandle) : null,
  })
}

async function ask(address: string, signal: AbortSignal): Promise<unknown> {
  const answer = await fetch(address, { headers: { Accept: 'application/json' }, signal })
  if (!answer.ok) throw new Error(`${answer.status}`)
  return answer.json()
}

function data(form: HTMLFormElement): unknown {
  return JSON.parse(form.querySelector('script[type="application/json"]')?.textContent ?? '{}')
}

function described(credential: PublicKeyCredential, response: object): object {
  return {
    id: credential.id,
    rawId: words(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment,
    clientExtensionResults: credential.getClientExtensionResults(),
    response,
  }
}

function descriptor(given: Descriptor): PublicKeyCredentialDescriptor {
  return { ...given, id: bytes(given.id) }
}

/** Return what base64url words mean (RFC 4648, section 5, without padding). */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (letter) => letter.charCodeAt(0))
}

/** Write bytes as base64url without padding. */
export function words(buffer: ArrayBuffer): string {
  const letters = String.fromCharCode(...new Uint8Array(buffer))
  return btoa(letters).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

function say(form: HTMLFormElement, message: string): void {
  const line = form.querySelector<HTMLElement>('[data-passkey-error]')
  if (!line) return
  line.hidden = !message
  const place = line.querySelector('span')
  if (place) place.textContent = message
}
