import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

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

/** A compressed copy beside each text file: the server sends it as it is. */
function compressedCopies(): Plugin {
  let folder = ''
  return {
    name: 'compressed-copies',
    apply: 'build',
    configResolved: (config) => {
      folder = config.build.outDir
    },
    closeBundle: () => {
      for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
        if (/\.(js|css|svg|html)$/.test(file)) writeFileSync(join(folder, `${file}.gz`), gzipSync(readFileSync(join(folder, file)), { level: 9 }))
      }
    },
  }
}

const server = process.env.FABRICWISE_SERVER ?? 'http://127.0.0.1:8888'

export default defineConfig({
  plugins: [react(), themeVariables(), compressedCopies()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // data: addresses are not allowed by the policy
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { '/v1': server } },
})
