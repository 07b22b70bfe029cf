#!/usr/bin/env -S node --max-semi-space-size=8 --heap-growing-percent=30 --initial-old-space-size=48
import module from 'node:module'

// This file comes before Rung's own and runs on any Node that has modules, so that an old one can be told. It is JavaScript: were it
// TypeScript, Node would load its compiler for it (14 MiB).
const leastMajor = 22
const leastMinor = 18
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < leastMajor || (major === leastMajor && minor < leastMinor)) {
  process.stderr.write(
    `Rung needs Node ${leastMajor}.${leastMinor} or newer, and this is Node ${process.versions.node}. Install a newer one: https://nodejs.org\n`,
  )
  process.exitCode = 1
} else {
  // Whoever reads the output may go away (a closed terminal, `| head`): a command still ends in order. Those that run on stop then.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  // Compiled code is kept between starts, in the system's temporary folder: a start costs half, and needs no compiler in memory.
  module.enableCompileCache()
  const { main } = await import('./main.ts')
  process.exitCode = await main(process.argv.slice(2), process.env, process.cwd(), {
    line: (text = '') => process.stdout.write(`${text}\n`),
    json: (value) => process.stdout.write(`${JSON.stringify(value, null, 2)}\n`),
    note: (text) => process.stderr.write(`${text}\n`),
  })
}
