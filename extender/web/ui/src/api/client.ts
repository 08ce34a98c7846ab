/** Requests to the server that served this page. A token, where one is needed, is kept for this browser tab only. */

const TOKEN_KEY = 'fabricwise-token'

/** An answer that is an error: its HTTP status (0 = no answer came) and the server's sentence. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

type Listener = () => void
const listeners = new Set<Listener>()
let tokenNeeded = false

export const access = {
  subscribe(listener: Listener): () => void {
    listeners.add(listener)
    return () => listeners.delete(listener)
  },
  /** Whether the server answered 401 since the last token was entered. */
  tokenNeeded: (): boolean => tokenNeeded,
  hasToken: (): boolean => sessionStorage.getItem(TOKEN_KEY) !== null,
  /** Ask for another token: this one may not see what is asked for. */
  forget(): void {
    sessionStorage.removeItem(TOKEN_KEY)
    setNeeded(true)
  },
  enter(token: string): void {
    sessionStorage.setItem(TOKEN_KEY, token)
    setNeeded(false)
  },
}

function setNeeded(needed: boolean): void {
  if (needed === tokenNeeded) return
  tokenNeeded = needed
  for (const listener of listeners) listener()
}

/** Fetch with the token. Throws ApiError for a status that is not 2xx and where no answer comes. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN_KEY)
  const headers = new Headers(init.headers)
  if (token !== null) headers.set('Authorization', `Bearer ${token}`)
  let response: Response
  try {
    response = await fetch(path, { ...init, headers })
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    throw new ApiError(0, 'The server does not answer. Is it running, and is the port-forward open?')
  }
  if (response.ok) return response
  // Only of the token that is in use: another one may have been entered while this answer was on its way.
  if (response.status === 401 && token === sessionStorage.getItem(TOKEN_KEY)) setNeeded(true)
  throw new ApiError(response.status, await sentence(response))
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await request(path, { signal })).json()) as T
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const response = await request(path, { method: 'POST', body: text, headers: { 'Content-Type': 'application/json' }, signal })
  return (await response.json()) as T
}

async function sentence(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { error?: unknown; detail?: unknown }
    const said = body.error ?? body.detail
    if (typeof said === 'string') return said
  } catch {
    // Not JSON: the status says what is known.
  }
  return `The server answers ${response.status} ${response.statusText}.`
}
