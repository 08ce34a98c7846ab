/** Which nodes are listed, in which order, under which headings. Pure. */

import { productKey } from '../../api/format.ts'
import type { GpuState, NodeRow } from '../../api/types.ts'

export interface Choice {
  search: string
  product: string
  fabric: string
  state: string
  sort: string
}

export interface Group {
  key: string
  product: string | null
  fabric: string
  rows: NodeRow[]
  counts: Record<GpuState, number>
}

/** A filter's value -> its name and the nodes it keeps. */
export const STATE_FILTERS: Record<string, { name: string; keeps: (row: NodeRow) => boolean }> = {
  free: { name: 'with free GPUs', keeps: (row) => row.free > 0 && row.schedulable },
  empty: { name: 'all GPUs free', keeps: (row) => row.gpus > 0 && row.free === row.gpus },
  full: { name: 'no GPU free', keeps: (row) => row.free === 0 },
  assumed: { name: 'with assumed GPUs', keeps: (row) => row.assumed > 0 },
  excluded: { name: 'with excluded GPUs', keeps: (row) => row.excluded > 0 },
  problems: { name: 'with problems', keeps: (row) => row.problems > 0 },
  unschedulable: { name: 'cordoned or not ready', keeps: (row) => !row.schedulable },
}

type Order = (a: NodeRow, b: NodeRow) => number

/** A sort's value -> its name and order. Nodes that are equal stay in the order of their names. */
export const SORTS: Record<string, { name: string; order: Order | null }> = {
  name: { name: 'Name', order: null },
  free: { name: 'Most free GPUs', order: (a, b) => b.free - a.free },
  busy: { name: 'Most pressure', order: (a, b) => (b.pressure ?? -1) - (a.pressure ?? -1) },
  problems: { name: 'Most problems', order: (a, b) => b.problems - a.problems || b.excluded - a.excluded },
  pods: { name: 'Most pods', order: (a, b) => b.pods - a.pods },
}

const collator = new Intl.Collator('en', { numeric: true })
let sortedNames: readonly string[] = []

/** The rows in the order of their names. The order is kept while the names are the same: comparing 5,000 names takes longer than a frame. */
function byName(rows: ReadonlyMap<string, NodeRow>): NodeRow[] {
  if (sortedNames.length !== rows.size || sortedNames.some((name) => !rows.has(name))) sortedNames = [...rows.keys()].sort(collator.compare)
  return sortedNames.map((name) => rows.get(name)!)
}

const texts = new WeakMap<NodeRow, string>()

/** What a search looks for in a row, in lower case. */
function textOf(row: NodeRow): string {
  let text = texts.get(row)
  if (text === undefined) texts.set(row, (text = `${row.name} ${row.product ?? ''} ${row.pool ?? ''} ${row.zone ?? ''}`.toLowerCase()))
  return text
}

const STATES: readonly GpuState[] = ['free', 'taken', 'assumed', 'excluded', 'unknown']

export function grouped(all: ReadonlyMap<string, NodeRow>, choice: Choice): Group[] {
  const wanted = choice.search.trim().toLowerCase()
  const keeps = STATE_FILTERS[choice.state]?.keeps
  const rows = byName(all).filter(
    (row) =>
      (choice.product === '' || productKey(row.product) === choice.product) &&
      (choice.fabric === '' || row.fabric === choice.fabric) &&
      (keeps === undefined || keeps(row)) &&
      (wanted === '' || textOf(row).includes(wanted)),
  )
  const order = SORTS[choice.sort]?.order
  if (order) rows.sort(order) // a stable sort: equal nodes stay in the order of their names
  const groups = new Map<string, Group>()
  for (const row of rows) {
    const key = `${productKey(row.product)}\n${row.fabric}\n${row.fabric_detail ?? ''}`
    let group = groups.get(key)
    if (group === undefined) {
      const counts = { free: 0, taken: 0, assumed: 0, excluded: 0, unknown: 0 }
      groups.set(key, (group = { key, product: row.product, fabric: row.fabric_detail ?? (row.fabric === 'unknown' ? 'links unknown' : row.fabric), rows: [], counts }))
    }
    group.rows.push(row)
    for (const state of STATES) group.counts[state] += row[state]
  }
  return [...groups.values()].sort((a, b) => fabricRank(a) - fabricRank(b) || collator.compare(a.product ?? '', b.product ?? ''))
}

const FABRICS = ['NVSwitch', 'NVLink mesh', 'NVLink bridges', 'PCIe', 'unknown']
const fabricRank = (group: Group): number => FABRICS.indexOf(group.rows[0]!.fabric)

/** `band`: small groups side by side, each with its heading. `heading` and `cards`: a group that needs more than one line. */
export type Line =
  | { kind: 'band'; key: string; groups: Group[] }
  | { kind: 'heading'; key: string; group: Group }
  | { kind: 'cards'; key: string; rows: NodeRow[] }

/** The groups as lines of at most `columns` cards. Small groups share a line as long as they fit; the order of groups stays. */
export function linesOf(groups: readonly Group[], columns: number): Line[] {
  const lines: Line[] = []
  let band: Group[] = []
  const flush = () => {
    if (band.length > 0) lines.push({ kind: 'band', key: `b ${band[0]!.key}`, groups: band })
    band = []
  }
  for (const group of groups) {
    if (group.rows.length > columns) {
      flush()
      lines.push({ kind: 'heading', key: `h ${group.key}`, group })
      for (let at = 0; at < group.rows.length; at += columns) {
        lines.push({ kind: 'cards', key: `${group.key} ${at}`, rows: group.rows.slice(at, at + columns) })
      }
      continue
    }
    const used = band.reduce((sum, each) => sum + each.rows.length, 0)
    if (used + group.rows.length > columns) flush()
    band.push(group)
  }
  flush()
  return lines
}

/** How many of the counted GPUs are replicas of shared GPUs, and how many are MIG devices. */
export function parts(rows: ReadonlyMap<string, NodeRow>): { replicas: number; mig: number } {
  const counted = { replicas: 0, mig: 0 }
  for (const row of rows.values()) if (row.sharing !== null) counted[row.sharing === 'mig' ? 'mig' : 'replicas'] += row.gpus
  return counted
}

export const SLOT_SIZES = [1, 2, 4, 8] as const

/** Pods of each size that fit by free GPUs per node alone, now. Replicas and MIG devices do not work together: they hold pods of one GPU. */
export function fits(rows: ReadonlyMap<string, NodeRow>): Map<number, number> {
  const counts = new Map<number, number>(SLOT_SIZES.map((size) => [size, 0]))
  for (const row of rows.values()) {
    if (!row.schedulable) continue
    for (const size of row.sharing === null ? SLOT_SIZES : SLOT_SIZES.slice(0, 1)) counts.set(size, counts.get(size)! + Math.floor(row.free / size))
  }
  return counts
}
