import { openDataDir } from '../engines/postgres/data-dir.ts'
import { askFleet } from '../fleet/control.ts'
import { startedOn } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import { RungError } from '../kernel/errors.ts'
import { toMs } from '../kernel/units.ts'
import { prepareRoot, switchRoot } from '../runtime/secrets.ts'
import { dataDirOf } from '../topology/bindings.ts'
import { type Command, type Result, result, settingOptions, unknownVerb } from './command.ts'
import { dataDirOfInput, settingsOf } from './input-settings.ts'

const command: Command = {
  name: 'secret',
  summary: 'replace the root of all keys, and sign nobody out',
  usage: 'rung secret rotate|reload [options]',
  wordsMax: 1,
  help: [
    'Makes a new root of all keys in the data directory. What the present one has signed',
    'stays good for the time of --keep: sessions, positions, signed URLs, tokens of the',
    'app, links in mails.',
    '',
    'In the fleet of "rung up" the processes are restarted twice, one after the other:',
    'first all accept what the new root signs, then they sign with it. What was interrupted',
    'goes on when the command is repeated within an hour, and begins anew after that. A',
    'single "rung start" takes the new root at its next start.',
    '',
    'A root that RUNG_SECRET names is replaced where it is kept, in the same two steps:',
    'docs/guides/one-server.md. With reload the processes of a fleet read their settings',
    'again, and those for which something has changed are restarted one after the other.',
  ].join('\n'),
  settings: ['process.secret'],
  examples: ['rung secret rotate', 'rung secret rotate --keep 60d', 'rung secret reload'],
  options: {
    keep: { type: 'string', value: 'time', help: 'How long the present root is accepted. Default 30d.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, values, cwd, out } = input
    const [verb = ''] = positionals
    if (verb === 'reload') {
      if (values.keep !== undefined) throw new RungError('COMMAND_INVALID', '--keep is for: rung secret rotate')
      const view = await askFleet(dataDirOfInput(input), { command: 'reload' }, out.note)
      return result(view as { restarted: string[] }, ({ restarted }) =>
        out.line(restarted.length > 0 ? `Restarted ${restarted.join(', ')}.` : 'Nothing has changed.'),
      )
    }
    if (verb !== 'rotate') unknownVerb(command, verb)
    const settings = await settingsOf(input)
    const keptMs = toMs((values.keep as never) ?? '30d')
    const given = settings.given.get('process.secret')
    if (given !== undefined) {
      throw new RungError(
        'COMMAND_INVALID',
        `The root of all keys is not in the data directory: ${given.called} names it. Replace it there in two steps: docs/guides/one-server.md.`,
      )
    }
    const dataDir = dataDirOf(settings, cwd)
    const { backup } = settings.values
    const backsUp = backup.dir !== undefined || backup.url !== undefined
    await openDataDir(dataDir)
    const fleet = await runningFleet(dataDir)
    const roll = async (what: string) => {
      if (!fleet) return
      out.note(what)
      await askFleet(dataDir, { command: 'reload' }, out.note)
    }
    const { next, madeAt } = await prepareRoot(dataDir)
    const started = fleet ? [] : await startedOn(dataDir)
    // Of several processes of "rung start" one would sign what those do not accept yet that began before the next root was there.
    if (started.length > 1 && !started.every(({ startedAt }) => startedAt > madeAt))
      return told({ rotated: false, restartNeeded: true })
    await roll('All processes learn the new root, and sign with the old one.')
    await switchRoot(dataDir, next, keptMs)
    await roll('All processes sign with the new root.')
    return told({ rotated: true, restartNeeded: started.length > 0 })

    function told(view: { rotated: boolean; restartNeeded: boolean }): Result {
      return result({ ...view, keptMs }, ({ rotated, restartNeeded }) => {
        if (rotated) {
          out.line(`The root of all keys is new. The old one is accepted for ${values.keep ?? '30d'}.`)
          if (backsUp)
            out.line('A restore of an older base backup brings the old one back. Make a new one: rung backup')
        } else out.line('The next root of all keys is ready. Restart each "rung start", so that all know it.')
        if (restartNeeded) out.line(rotated ? 'Restart "rung start" now.' : 'Then run this command again.')
      })
    }
  },
}
export default command
