import { DEFAULT_THEME, convertCssVariables, defaultCssVariablesResolver, mergeMantineTheme } from '@mantine/core'
import react from '@vitejs/plugin-react'
import { defineConfig, type Plugin } from 'vite'

import { theme } from './src/theme.ts'

const VARIABLES = 'virtual:theme-variables.css'

/** The theme's CSS variables as a file: the Content-Security-Policy has no place for the <style> element that Mantine would insert. */
function themeVariables(): Plugin {
  return {
    name: 'theme-variables',
    resolveId: (id) => (id === VARIABLES ? `\0${VARIABLES}` : null),
    load: (id) => (id === `\0${VARIABLES}` ? convertCssVariables(defaultCssVariablesResolver(mergeMantineTheme(DEFAULT_THEME, theme)), ':root') : null),
  }
}

const server = process.env.FABRICWISE_SERVER ?? 'http://127.0.0.1:8888'

export default defineConfig({
  plugins: [react(), themeVariables()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // data: addresses are not allowed by the policy
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { '/v1': server } },
})
