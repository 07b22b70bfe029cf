/** A process that starts a replica, and is killed in the middle of its copy, or once it runs. */
import { type StandbyOptions, startStandby } from '../../src/engines/postgres/standby.ts'

const [options, moment] = process.argv.slice(2)
const die = () => process.kill(process.pid, 'SIGKILL')
await startStandby({
  ...(JSON.parse(options!) as StandbyOptions),
  onProgress(done, total) {
    if (moment === 'copy' && done > total / 2) die()
  },
})
die()
