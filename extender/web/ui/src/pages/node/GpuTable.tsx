import { Table } from '@mantine/core'
import { Fragment } from 'react'
import { Link } from 'react-router'

import { celsius, gib, percent, UNKNOWN } from '../../api/format.ts'
import type { MachineGpu } from '../../api/types.ts'
import { GlyphIcon, stateWord } from '../../parts/GpuGlyph.tsx'
import { PodLink } from '../../parts/Links.tsx'
import classes from './node.module.css'

/** The GPUs as a table: the same as the drawing, with links to the pods and everything that has no place in a box. */
export function GpuTable({ gpus }: { gpus: readonly MachineGpu[] }) {
  const has = {
    stray: gpus.some((gpu) => (gpu.memory.unknown_bytes ?? 0) > 0),
    measured: gpus.some((gpu) => gpu.temperature_celsius !== null || gpu.utilization !== null),
    faults: gpus.some((gpu) => gpu.faults.length + gpu.suspicions.length > 0 || gpu.state_why !== null || (gpu.missing_links ?? 0) > 0),
  }
  return (
    <section className="panel" aria-labelledby="gpus-table-heading">
      <h2 id="gpus-table-heading">GPUs</h2>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls sideways must be reachable by keyboard */}
      <div className={classes.scroll} role="region" aria-label="Table of the GPUs" tabIndex={0}>
        <Table verticalSpacing={6} className="number">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>GPU</Table.Th>
              <Table.Th>State</Table.Th>
              <Table.Th>Pod</Table.Th>
              <Table.Th>Memory used</Table.Th>
              {has.stray && <Table.Th>By unknown processes</Table.Th>}
              {has.measured && <Table.Th>Temperature</Table.Th>}
              {has.measured && <Table.Th>Busy</Table.Th>}
              <Table.Th>NUMA zone</Table.Th>
              {has.faults && <Table.Th>Remarks</Table.Th>}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {gpus.map((gpu) => (
              <Table.Tr key={gpu.gpu}>
                <Table.Td>{gpu.gpu}</Table.Td>
                <Table.Td>
                  <span className={classes.stateCell}>
                    <GlyphIcon state={gpu.state} size={16} /> {stateWord(gpu.state)}
                  </span>
                </Table.Td>
                <Table.Td>
                  {gpu.pods.length === 0 && UNKNOWN}
                  {gpu.pods.map((pod, at) => (
                    <Fragment key={pod}>
                      {at > 0 && ', '}
                      <PodLink pod={pod} />
                    </Fragment>
                  ))}
                  {gpu.pods.length > 0 && !gpu.pods_are_known && <span className="quiet"> (predicted)</span>}
                </Table.Td>
                <Table.Td className="figure">
                  {gib(gpu.memory.used_bytes)} <span className="quiet">of {gib(gpu.memory.total_bytes)}</span>
                </Table.Td>
                {has.stray && <Table.Td className="figure">{gib(gpu.memory.unknown_bytes)}</Table.Td>}
                {has.measured && <Table.Td className="figure">{celsius(gpu.temperature_celsius)}</Table.Td>}
                {has.measured && <Table.Td className="figure">{percent(gpu.utilization)}</Table.Td>}
                <Table.Td>{gpu.numa_node ?? UNKNOWN}</Table.Td>
                {has.faults && <Table.Td className={`name ${classes.remarks}`}>{remarks(gpu)}</Table.Td>}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </div>
      <p className={`quiet ${classes.assumed}`}>
        Decisions about these pods: <Link to="/decisions">Decisions</Link>
      </p>
    </section>
  )
}

function remarks(gpu: MachineGpu): string {
  const links = (gpu.missing_links ?? 0) > 0 ? [`${gpu.missing_links} NVLinks missing`] : []
  const all = [...gpu.faults, ...links, ...(gpu.state_why === null || gpu.faults.includes(gpu.state_why) ? [] : [gpu.state_why]), ...gpu.suspicions]
  return all.join('; ')
}
