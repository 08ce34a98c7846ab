import { createTheme, type MantineColorsTuple } from '@mantine/core'

/** The one accent colour: links, focus, selection. */
const signal: MantineColorsTuple = [
  '#e6fbf6', '#cdf3ea', '#9ce6d5', '#66d7be', '#3bc9ab', '#1fb99a', '#0fa78a', '#0b8570', '#08705f', '#05574a',
]

/** Greys with a little blue; the dark scheme's surfaces. */
const dark: MantineColorsTuple = [
  '#d7dee8', '#b3bfce', '#93a1b3', '#6b7a8e', '#354152', '#273242', '#1b2431', '#131a24', '#0d131b', '#080c12',
]

export const theme = createTheme({
  primaryColor: 'signal',
  primaryShade: 7, // white text on it is readable in both colour schemes
  colors: { signal, dark },
  fontFamily: "'Inter Variable', system-ui, sans-serif",
  fontFamilyMonospace: "ui-monospace, 'SFMono-Regular', 'Cascadia Mono', Menlo, Consolas, 'Liberation Mono', monospace",
  headings: { fontFamily: "'Inter Variable', system-ui, sans-serif", fontWeight: '650' },
  defaultRadius: 'md',
  cursorType: 'pointer',
})
