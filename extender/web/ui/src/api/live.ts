/** The cluster as it is now: one answer of /v1/cluster, then the events of /v1/stream folded in. One store for all pages. */

import { createParser, type EventSourceMessage } from 'eventsource-parser'

import { access, ApiError, get, request } from './client.ts'
import type { ClusterAnswer, DecisionEvent, NodeRow, NodesEvent } from './types.ts'

export type Connection = 'connecting' | 'live' | 'lost'

/** What the pages draw. A new object for each change; rows that did not change keep their identity. */
export interface Live {
  connection: Connection
  /** Why there is no connection; null while it is live. */
  problem: Error | null
  /** Without `nodes`: those are in `rows`. Null until the first answer. */
  cluster: Omit<ClusterAnswer, 'nodes'> | null
  rows: ReadonlyMap<string, NodeRow>
  /** Newest first, bounded. */
  decisions: readonly DecisionEvent[]
  /** Browser time, in milliseconds, when the server last said something; null before. */
  heardAt: number | null
  /** What changed with the last event, for screen readers. */
  lastChange: string
}

const MOST_DECISIONS = 500
/** The server says something each 5 s; after this long without a word the connection counts as lost. */
const SILENCE_MS = 15_000
/** An answer of 5,000 nodes takes less than a second; without this bound a server that hangs would not be told from one that works. */
const LOAD_MS = 30_000
const RETRY_MS = [500, 1000, 2000, 5000]

let state: Live = {
  connection: 'connecting',
  problem: null,
  cluster: null,
  rows: new Map(),
  decisions: [],
  heardAt: null,
  lastChange: '',
}
const listeners = new Set<() => void>()
let running = false
let foldedSequence = 0
let position: string | null = null

function set(change: Partial<Live>): void {
  state = { ...state, ...change }
  for (const listener of listeners) listener()
}

export const live = {
  now: (): Live => state,
  subscribe(listener: () => void): () => void {
    listeners.add(listener)
    if (!running) void run()
    return () => listeners.delete(listener)
  },
}

async function run(): Promise<void> {
  running = true
  for (let failures = 0; ; ) {
    try {
      if (state.cluster === null || position === null) await load()
      await read()
      failures = 0
    } catch (error) {
      const problem = error instanceof Error ? error : new Error(String(error))
      set({ connection: 'lost', problem })
      if (error instanceof ApiError && error.status === 401) await tokenEntered()
      else await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]!)
    }
  }
}

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

const tokenEntered = (): Promise<void> =>
  new Promise((done) => {
    if (!access.tokenNeeded()) {
      done() // the token was entered while this answer was on its way
      return
    }
    const stop = access.subscribe(() => {
      if (!access.tokenNeeded()) {
        stop()
        done()
      }
    })
  })

async function load(stop: AbortSignal | null = null): Promise<void> {
  const bound = AbortSignal.timeout(LOAD_MS)
  const { nodes, ...cluster } = await get<ClusterAnswer>('/v1/cluster', stop === null ? bound : AbortSignal.any([bound, stop]))
  foldedSequence = cluster.sequence
  position ??= cluster.stream
  // Rows with the same content keep their identity, so that a reload draws nothing anew that did not change.
  const rows = new Map<string, NodeRow>()
  for (const row of nodes) {
    const before = state.rows.get(row.name)
    rows.set(row.name, before !== undefined && JSON.stringify(before) === JSON.stringify(row) ? before : row)
  }
  set({ cluster, rows, connection: 'live', problem: null, heardAt: Date.now() })
}

/** Read one stream until it ends. Throws where it cannot be opened, breaks, or falls silent. */
async function read(): Promise<void> {
  const stop = new AbortController()
  let failure: unknown = null
  let silence = setTimeout(() => stop.abort(), SILENCE_MS)
  const heard = () => {
    clearTimeout(silence)
    silence = setTimeout(() => stop.abort(), SILENCE_MS)
  }
  try {
    const headers = position === null ? undefined : { 'Last-Event-ID': position }
    const response = await request('/v1/stream', { headers, signal: stop.signal, cache: 'no-store' })
    if (state.connection === 'lost') set({ connection: 'connecting', problem: null })
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    let reloading: Promise<void> | null = null
    let isOutdated = false
    let waiting: EventSourceMessage[] = []
    // Events that arrive during a reload are folded after it: its answer may be older than they are.
    const reload = async () => {
      try {
        do {
          isOutdated = false
          await load(stop.signal)
        } while (isOutdated)
        for (const event of waiting) fold(event)
      } catch (error) {
        failure = error
        position = null // the state is read again before the next stream: without it the events change rows that are not theirs
        stop.abort()
      } finally {
        waiting = []
        reloading = null
      }
    }
    const parser = createParser({
      onEvent: (event) => {
        if (event.id !== undefined && event.id !== '') position = event.id
        if (event.event === 'resync') {
          waiting = []
          isOutdated = true
          reloading ??= reload()
        } else if (reloading === null) fold(event)
        else waiting.push(event)
      },
    })
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      heard()
      parser.feed(value)
    }
    if (reloading !== null) await reloading
    if (failure !== null) throw failure
  } catch (error) {
    if (failure !== null) throw failure
    if (stop.signal.aborted) throw new ApiError(0, `The server has said nothing for ${SILENCE_MS / 1000} s.`)
    if (error instanceof ApiError) throw error
    throw new ApiError(0, 'The connection to the server broke.')
  } finally {
    clearTimeout(silence)
    stop.abort()
  }
}

function fold(event: EventSourceMessage): void {
  const heardAt = Date.now()
  if (event.event === 'nodes') {
    const data = JSON.parse(event.data) as NodesEvent
    if (data.sequence <= foldedSequence) return
    foldedSequence = data.sequence
    const { changed, removed, ...counts } = data
    let rows = state.rows
    if (changed.length > 0 || removed.length > 0) {
      const next = new Map(state.rows)
      for (const row of changed) next.set(row.name, row)
      for (const name of removed) next.delete(name)
      rows = next
    }
    const cluster = state.cluster === null ? null : { ...state.cluster, ...counts }
    set({ rows, cluster, heardAt, connection: 'live', problem: null, lastChange: changeText(changed, removed) || state.lastChange })
  } else if (event.event === 'decision') {
    const data = JSON.parse(event.data) as DecisionEvent
    if (state.decisions.some((each) => each.id === data.id)) return // not by `sequence`: a server that restarts counts from 1 again
    set({ decisions: [data, ...state.decisions].slice(0, MOST_DECISIONS), heardAt, connection: 'live', problem: null })
  } else if (event.event === 'age' && state.cluster !== null) {
    const { at_seconds, state_age_seconds, synced } = JSON.parse(event.data) as ClusterAnswer
    set({ cluster: { ...state.cluster, at_seconds, state_age_seconds, synced }, heardAt, connection: 'live', problem: null })
  } else {
    set({ heardAt })
  }
}

function changeText(changed: readonly NodeRow[], removed: readonly string[]): string {
  const [first] = changed
  if (changed.length === 1 && first !== undefined && removed.length === 0) return `${first.name}: ${first.free} of ${first.gpus} GPUs free`
  const parts = []
  if (changed.length > 0) parts.push(`${changed.length} nodes changed`)
  if (removed.length > 0) parts.push(removed.length === 1 ? `${removed[0]} was removed` : `${removed.length} nodes were removed`)
  return parts.join(', ')
}
