import { useQuery, useQueryClient, type UseQueryResult } from '@tanstack/react-query'
import { useCallback, useEffect, useState, useSyncExternalStore } from 'react'
import { useSearchParams } from 'react-router'

import { get } from './client.ts'
import { live, type Live } from './live.ts'

/** Part of the live state; the component draws anew only when that part changes. */
export function useLivePart<T>(part: (state: Live) => T): T {
  return useSyncExternalStore(live.subscribe, () => part(live.now()))
}

/** The answer of a GET, refreshed each `everySeconds`, and at once when `changed` takes another value. */
export function useAnswer<T>(path: string | null, everySeconds = 10, changed?: unknown): UseQueryResult<T> {
  const queries = useQueryClient()
  useEffect(() => {
    if (changed !== undefined && path !== null) void queries.invalidateQueries({ queryKey: [path] })
  }, [changed, path, queries])
  return useQuery<T>({
    queryKey: [path],
    queryFn: ({ signal }) => get<T>(path!, signal),
    enabled: path !== null,
    refetchInterval: everySeconds * 1000,
    placeholderData: undefined,
  })
}

/** The time in milliseconds, a new value each second. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now)
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000)
    return () => clearInterval(timer)
  }, [])
  return now
}

/** The document's title while the page is shown, also read when the route changes. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === '' ? 'Fabricwise' : `${title} · Fabricwise`
  }, [title])
}

/** Whether the window is narrower than `pixels`. */
export function useNarrow(pixels: number): boolean {
  const query = `(max-width: ${pixels - 1}px)`
  return useSyncExternalStore(
    (listener) => {
      const list = window.matchMedia(query)
      list.addEventListener('change', listener)
      return () => list.removeEventListener('change', listener)
    },
    () => window.matchMedia(query).matches,
  )
}

/**
 * Sets one part of the address; '' leaves it out. It begins from the address itself: the router renders a change later, and a key or click
 * that comes before that must not undo it.
 */
export function useSetAddress(): (name: string, value: string) => void {
  const [, setParams] = useSearchParams()
  return useCallback(
    (name, value) => {
      const next = new URLSearchParams(window.location.search)
      if (value === '') next.delete(name)
      else next.set(name, value)
      setParams(next, { replace: true, preventScrollReset: true })
    },
    [setParams],
  )
}

/** A text field whose text is also a part of the address. The field shows each key at once. */
export function useAddressText(name: string): [string, (text: string) => void] {
  const [params] = useSearchParams()
  const [text, setText] = useState(params.get(name) ?? '')
  const setAddress = useSetAddress()
  return [
    text,
    (next) => {
      setText(next)
      setAddress(name, next)
    },
  ]
}
