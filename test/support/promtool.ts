import { askProgram } from '../../src/engines/process/ask-program.ts'
import type { Packages } from '../../src/engines/process/debian.ts'

/** `promtool` and `amtool`, which check generated rules and routes. Their servers are not run. */
export const prometheusPackages: Packages = {
  debian: ['prometheus', 'prometheus-alertmanager'],
  debianServices: ['prometheus', 'prometheus-alertmanager'],
  brew: ['prometheus', 'alertmanager'],
  dockerImage: 'prom/prometheus',
}

const has = (program: string) => askProgram(program, ['--version']).status === 0
/** For `{ skip: noPromtool }`: the reason, where there is none. */
export const noPromtool: string | false =
  has('promtool') && has('amtool') ? false : 'promtool is not installed: apt install prometheus prometheus-alertmanager'
