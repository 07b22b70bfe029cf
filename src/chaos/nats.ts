import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { deleteStreams } from '../engines/nats/client.ts'
import { natsConfigFile, natsUrl, passwordIn } from '../engines/nats/recipe.ts'
import { type Fault, noEffect } from './fault.ts'
import { processOf } from './parts.ts'

/** Faults inside the NATS that Rung runs. */

const loseEvents: Fault = {
  name: 'lose-events',
  does: 'deletes all streams of NATS, with their consumers',
  shows: 'The streams are made anew, and what was in them comes from the database. No event is lost or handled twice.',
  on: ['nats'],
  lasts: false,
  async inject({ part }) {
    processOf(part)
    const config = await readFile(path.join(path.dirname(part.log), natsConfigFile), 'utf8')
    const deleted = await deleteStreams(natsUrl(part.address, passwordIn(config)))
    if (deleted === 0) throw noEffect('NATS has no stream yet, so nothing was deleted.')
    return { did: `deleted ${deleted === 1 ? 'the stream' : `${deleted} streams`}` }
  },
}

export const natsFaults: readonly Fault[] = [loseEvents]
