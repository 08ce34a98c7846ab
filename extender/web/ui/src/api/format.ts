/** Numbers as text, with units. Unknown is a dash, never a zero. */

export const UNKNOWN = '–'

const GIB = 2 ** 30

export const gib = (bytes: number | null | undefined): string =>
  bytes == null ? UNKNOWN : `${bytes / GIB >= 100 || Number.isInteger(bytes / GIB) ? Math.round(bytes / GIB) : (bytes / GIB).toFixed(1)} GiB`

export const gbps = (value: number | null | undefined): string =>
  value == null ? UNKNOWN : `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} GB/s`

export const percent = (share: number | null | undefined): string => (share == null ? UNKNOWN : `${Math.round(share * 100)} %`)

export const celsius = (value: number | null | undefined): string => (value == null ? UNKNOWN : `${Math.round(value)} °C`)

/** "3 s", "5 min", "2 h", "4 d". */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null) return UNKNOWN
  if (seconds < 0.001) return '< 1 ms'
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}

/** How old something is: whole seconds, "0 s" for what is new. */
export const age = (seconds: number): string => (seconds < 1 ? '0 s' : duration(Math.floor(seconds)))

export const clock = (unixSeconds: number): string =>
  new Date(unixSeconds * 1000).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })

export const count = (n: number, noun: string, plural = `${noun}s`): string => `${n.toLocaleString('en')} ${n === 1 ? noun : plural}`

/** GPU indices as people write them: {0,1,4}. */
export const gpuSet = (indices: readonly number[]): string => `{${indices.join(',')}}`

/** The product without the words that all of them share. */
export const shortProduct = (product: string | null): string => (product ?? 'unknown product').replace(/^(NVIDIA|Tesla)[\s-]+/, '')

const productKeys = new Map<string | null, string>()

/** The same for a product as the driver writes it, with spaces, and as node labels do, with hyphens. Kept: thousands of nodes have few products. */
export function productKey(product: string | null): string {
  let key = productKeys.get(product)
  if (key === undefined) productKeys.set(product, (key = shortProduct(product).replaceAll('-', ' ')))
  return key
}
