/** A process that starts a replica, and is killed in the middle of its copy, or once it runs. */
import { type PrimaryPlace, type StandbyOptions, startStandby } from '../../src/engines/postgres/standby.ts'

const [options, moment] = process.argv.slice(2)
const { primary, ...rest } = JSON.parse(options!) as Omit<StandbyOptions, 'primary'> & { primary: PrimaryPlace }
const die = () => process.kill(process.pid, 'SIGKILL')
await startStandby({
  ...rest,
  primary: () => primary,
  onProgress(done, total) {
    if (moment === 'copy' && done > total / 2) die()
  },
})
die()
