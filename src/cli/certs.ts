import { type CertificateFacts, daysLeft } from '../fleet/certificate.ts'
import { askFleet } from '../fleet/control.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, result, settingOptions, unknownVerb } from './command.ts'
import { dataDirOfInput } from './input-settings.ts'
import { certificateLines } from './ps.ts'

const command: Command = {
  name: 'certs',
  summary: 'show the certificate of the running fleet, or reload it',
  usage: 'rung certs [reload] [options]',
  wordsMax: 1,
  help: [
    'Shows the certificate that clients get. Exits with 1 when it has expired or soon will',
    '(in 30 days, or in the last third of its life if that is shorter), and when its files',
    'cannot be used any more.',
    '',
    '"rung up" looks at the files every ten seconds and uses new ones for new connections;',
    'no connection ends. With reload that is done now: as the deploy hook of an ACME client.',
  ].join('\n'),
  settings: ['tls'],
  examples: ['rung certs', 'rung certs reload --data /var/lib/my-app'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const { positionals, out } = input
    const dataDir = dataDirOfInput(input)
    const [verb] = positionals
    if (verb === 'reload') {
      const facts = (await askFleet(dataDir, { command: 'reload-certificate' }, out.note)) as CertificateFacts
      return result(facts, (view) => out.line(certificateLines(view)[0]!))
    }
    if (verb !== undefined) unknownVerb(command, verb)
    const fleet = await runningFleet(dataDir)
    if (!fleet) throw new RungError('FLEET_NOT_RUNNING', 'No "rung up" runs on this data directory. See: rung ps')
    const { certificate } = fleet
    if (!certificate) throw new RungError('COMMAND_INVALID', 'This fleet has no certificate. Set RUNG_TLS_CERT.')
    const isGood = daysLeft(certificate, systemClock.now()) === undefined && certificate.problem === undefined
    return result(
      certificate,
      (view) => {
        for (const line of certificateLines(view)) out.line(line)
        out.line(`from ${view.file}`)
      },
      isGood ? 0 : 1,
    )
  },
}
export default command
