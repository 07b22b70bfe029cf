/** Loaded before a process: plants the fault that `RUNG_PLANT` names into the one source file that it changes. */
import fs from 'node:fs'
import { registerHooks, syncBuiltinESMExports } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { planted, sources } from './plant.ts'
import { plants } from './plants.ts'

const plant = plants.find(({ name }) => name === process.env.RUNG_PLANT)
if (plant) {
  const url = pathToFileURL(path.join(sources, plant.file)).href
  const source = planted(plant)
  const plantIt = () => {
    process.env.RUNG_PLANTED = plant.name // for run.ts: a file that is never loaded has no fault
    return source
  }
  registerHooks({
    load(asked, context, next) {
      const loaded = next(asked, context)
      return asked === url ? { ...loaded, source: plantIt() } : loaded
    },
  })
  // SQL and Lua are read, not loaded: see src/kernel/own-text.ts.
  const read = fs.readFileSync
  fs.readFileSync = ((file: fs.PathOrFileDescriptor, ...more: [never]) => {
    return file instanceof URL && file.href === url ? plantIt() : read(file, ...more)
  }) as typeof read
  syncBuiltinESMExports()
}
