import { ActionIcon, NativeSelect, NumberInput, TextInput } from '@mantine/core'
import { IconX } from '@tabler/icons-react'
import { useId } from 'react'

import { useLivePart } from '../../api/hooks.ts'
import { KINDS, PLATFORMS, SETTINGS, type Change } from './changes.ts'
import classes from './what_if.module.css'

interface Props {
  change: Change
  number: number
  set: (change: Change) => void
  remove: () => void
}

/** One change of the cluster, as fields. */
export function ChangeRow({ change, number, set, remove }: Props) {
  const { name } = KINDS[change.kind]
  return (
    <fieldset className={classes.row}>
      <legend className="visually-hidden">
        Change {number}: {name}
      </legend>
      <span className={classes.kind} aria-hidden="true">
        {name}
      </span>
      <Fields change={change} set={set} />
      <ActionIcon variant="subtle" color="gray" aria-label={`Leave out change ${number}: ${name}`} onClick={remove} className={classes.remove}>
        <IconX size={17} />
      </ActionIcon>
    </fieldset>
  )
}

function Fields({ change, set }: { change: Change; set: (change: Change) => void }) {
  const what = (value: string) => set({ ...change, what: value })
  const value = (text: string | number) => set({ ...change, value: String(text) })
  switch (change.kind) {
    case 'add':
      return (
        <>
          <Count label="Number of pods" value={change.value} set={value} most={1000} />
          <span className="quiet">pods with</span>
          <Count label="GPUs of each pod" value={change.what} set={(next) => what(String(next))} most={16} />
          <span className="quiet">GPUs each</span>
        </>
      )
    case 'nodes':
      return (
        <>
          <Count label="Number of nodes" value={change.value} set={value} most={1000} />
          <span className="quiet">of platform</span>
          <NativeSelect aria-label="Platform" value={change.what} onChange={(event) => what(event.currentTarget.value)} data={[...PLATFORMS]} />
        </>
      )
    case 'cordon':
      return <NodeField value={change.what} set={what} />
    case 'lose':
      return (
        <>
          <span className="quiet">GPU</span>
          <Count label="Index of the GPU" value={change.value} set={value} least={0} most={1023} />
          <span className="quiet">of</span>
          <NodeField value={change.what} set={what} />
        </>
      )
    case 'remove':
      return (
        <TextInput aria-label="Pod, as namespace/name" placeholder="namespace/name" required value={change.what} onChange={(event) => what(event.currentTarget.value)} className={classes.wide} />
      )
    case 'set':
      return (
        <>
          <NativeSelect aria-label="Setting" value={change.what} onChange={(event) => what(event.currentTarget.value)} data={SETTINGS} />
          <span className="quiet">to</span>
          <NumberInput aria-label="Value" value={change.value} onChange={value} min={0} step={0.1} w={100} hideControls />
        </>
      )
  }
}

function Count({ label, value, set, least = 1, most }: { label: string; value: string; set: (value: string | number) => void; least?: number; most: number }) {
  return <NumberInput aria-label={label} value={value} onChange={set} min={least} max={most} clampBehavior="strict" allowDecimal={false} w={76} required hideControls />
}

const MOST_NAMES = 200

function NodeField({ value, set }: { value: string; set: (value: string) => void }) {
  const rows = useLivePart((live) => live.rows)
  const names = useId()
  const wanted = value.toLowerCase()
  const offered = [...rows.keys()].filter((name) => name.toLowerCase().includes(wanted)).slice(0, MOST_NAMES)
  return (
    <>
      <TextInput aria-label="Node" placeholder="name of a node" required list={names} value={value} onChange={(event) => set(event.currentTarget.value)} className={classes.wide} />
      <datalist id={names}>
        {offered.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </>
  )
}
