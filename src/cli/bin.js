#!/usr/bin/env -S node --max-semi-space-size=8 --heap-growing-percent=30 --initial-old-space-size=48
import { enableCompileCache } from 'node:module'

// Compiled code is kept between starts, in the system's temporary folder: a start costs half, and needs no compiler in memory.
// This file comes before that, so it is JavaScript: were it TypeScript, Node would load its compiler for it (14 MiB).
enableCompileCache()
const { main } = await import('./main.ts')

process.exitCode = await main(process.argv.slice(2), process.env, process.cwd(), {
  line: (text = '') => process.stdout.write(`${text}\n`),
  json: (value) => process.stdout.write(`${JSON.stringify(value, null, 2)}\n`),
  note: (text) => process.stderr.write(`${text}\n`),
})
