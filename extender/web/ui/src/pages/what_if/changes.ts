/**
 * The changes of a what-if question: as rows of the form, as parts of the address (so that a question can be shared), as options of
 * `fabricwise what-if`, and as the body of POST /v1/what-if. Pure.
 */

export type Kind = 'add' | 'nodes' | 'cordon' | 'lose' | 'remove' | 'set'

export interface Change {
  kind: Kind
  /** GPUs per pod, a platform, a node, a pod, or a setting. */
  what: string
  /** How many, which GPU, or the setting's value. */
  value: string
}

export const KINDS: Record<Kind, { name: string; blank: Change }> = {
  add: { name: 'Add pods', blank: { kind: 'add', what: '4', value: '1' } },
  nodes: { name: 'Add nodes', blank: { kind: 'nodes', what: 'hgx-h100', value: '1' } },
  cordon: { name: 'Cordon a node', blank: { kind: 'cordon', what: '', value: '' } },
  lose: { name: 'Lose a GPU', blank: { kind: 'lose', what: '', value: '0' } },
  remove: { name: 'Remove a pod', blank: { kind: 'remove', what: '', value: '' } },
  set: { name: 'Change a setting', blank: { kind: 'set', what: 'scoring.weights.fragmentation', value: '0.5' } },
}

/** The bundled platforms, in the order of `fabricwise topo list`; a test compares them. */
export const PLATFORMS = [
  'a10', 'a100-pcie-bridge-pairs', 'a40-bridge-pairs', 'a6000-bridge-pairs', 'dgx-1p', 'dgx-1v', 'dgx-2', 'dgx-a100', 'gb200-tray', 'hgx-b200',
  'hgx-h100', 'hgx-h20', 'hgx-h200', 'l4', 'l40s', 'p4d', 'rtx4090', 't4',
] as const

export const SETTINGS = ['link', 'fragmentation', 'memory', 'pressure'].map((part) => `scoring.weights.${part}`)

const JOINS: Record<Kind, string> = { add: 'x', nodes: 'x', cordon: '', lose: ':', remove: '', set: '=' }

/** "4x3", "3xhgx-h100", "node-1:2", "ns/pod", "scoring.weights.link=0.5": as the command's options have it. */
export function textOf({ kind, what, value }: Change): string {
  if (kind === 'nodes') return `${value}x${what}`
  return JOINS[kind] === '' ? what : `${what}${JOINS[kind]}${value}`
}

function changeOf(kind: Kind, text: string): Change {
  const join = JOINS[kind]
  if (join === '') return { kind, what: text, value: '' }
  const at = kind === 'lose' ? text.lastIndexOf(join) : text.indexOf(join)
  const [first, second] = at < 0 ? [text, '1'] : [text.slice(0, at), text.slice(at + 1)]
  return kind === 'nodes' ? { kind, what: second, value: first } : { kind, what: first, value: second }
}

export function fromAddress(params: URLSearchParams): Change[] {
  return (Object.keys(KINDS) as Kind[]).flatMap((kind) => params.getAll(kind).slice(0, 50).map((text) => changeOf(kind, text)))
}

export function toAddress(changes: readonly Change[]): URLSearchParams {
  const params = new URLSearchParams()
  for (const change of changes) if (change.what !== '') params.append(change.kind, textOf(change))
  return params
}

/** The same question for a terminal. */
export function commandOf(changes: readonly Change[]): string {
  const options = changes.filter((change) => change.what !== '').map((change) => `--${change.kind} ${quoted(textOf(change))}`)
  return ['fabricwise what-if', ...options].join(' ')
}

const quoted = (text: string): string => (/^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)

export function bodyOf(changes: readonly Change[]): Record<string, unknown> {
  const of = (kind: Kind) => changes.filter((change) => change.kind === kind && change.what !== '')
  return {
    add: of('add').map(({ what, value }) => ({ gpus: Number(what), count: Number(value) })),
    nodes: of('nodes').map(({ what, value }) => ({ platform: what, count: Number(value) })),
    cordon: of('cordon').map(({ what }) => what),
    lose: of('lose').map(({ what, value }) => ({ node: what, gpu: Number(value) })),
    remove: of('remove').map(({ what }) => {
      const at = what.indexOf('/')
      return at < 0 ? { name: what } : { namespace: what.slice(0, at), name: what.slice(at + 1) }
    }),
    set: Object.fromEntries(of('set').map(({ what, value }) => [what, Number.isNaN(Number(value)) ? value : Number(value)])),
  }
}
