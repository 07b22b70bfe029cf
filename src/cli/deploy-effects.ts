import { spawn } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import path from 'node:path'
import type { ClimbEnd } from '../fleet/climb.ts'
import type { DeployEffects, ReleaseBook } from '../fleet/deploy.ts'
import type { Env } from '../fleet/placement.ts'
import { codeFolderOf, forgetReleases, inSource, keepRelease } from '../fleet/releases.ts'
import { type ErrorCode, errorCodes, messageOf, RungError, sentence } from '../kernel/errors.ts'
import { endDeploy, recordDeploy } from '../runtime/deploys.ts'
import type { Settings } from '../topology/read-settings.ts'
import { withFleetDatabase } from './deploy-records.ts'

export interface FleetOfDeploys {
  readonly appFile: string
  readonly dataDir: string
  readonly cwd: string
  readonly settings: Settings
  /** At which it runs now. */
  rung(): string
  readonly book: ReleaseBook
  /** The environment of a process of the app. */
  env(): Env
}

/** What a deploy does outside the fleet: it copies code, applies migrations in a process of their own, and keeps records. */
export function deployEffects({ appFile, dataDir, cwd, settings, rung, book, env }: FleetOfDeploys): DeployEffects {
  return {
    book,
    keep: (place, build) => keepRelease(place === undefined ? appFile : appIn(place, appFile), dataDir, build),
    forget: (used) => forgetReleases(dataDir, used),
    async migrate(next, present, note) {
      // The code of the app is never loaded into this process.
      const isApart = env().RUNG_NODES !== undefined // then processes of both builds call each other meanwhile
      const args = [next.app, '--running', present.folder, ...(isApart ? ['--callers', present.app] : [])]
      const named = (text: string) => inSource(inSource(text, next, cwd), present, cwd)
      return migrateApart(args, { ...env(), RUNG_BUILD: next.build }, cwd, named, note)
    },
    async begin({ build }, present) {
      const deploy = { build, rung: rung(), startedBy: 'rung deploy' } as const
      const id = await withFleetDatabase(settings, cwd, (at) => recordDeploy(at, deploy, present.build))
      return (end) => withFleetDatabase(settings, cwd, (at) => endDeploy(at, id, end))
    },
  }
}

/** Records a climb as a deploy of the same build. Where that is not possible, the fleet climbs all the same, and says so. */
export async function beginClimb(
  { build, from, to }: { build: string; from: string; to: string },
  { settings, cwd, note }: Pick<FleetOfDeploys, 'settings' | 'cwd'> & { note(text: string): void },
): Promise<(end: ClimbEnd) => Promise<void>> {
  const climb = { build, rung: to, fromRung: from, startedBy: 'rung climb' } as const
  const failed = (error: unknown) => note(`The climb was not recorded: ${messageOf(error)}`)
  const id = await withFleetDatabase(settings, cwd, (at) => recordDeploy(at, climb, build)).catch(failed)
  return async (end) => {
    if (typeof id !== 'number') return
    await withFleetDatabase(settings, cwd, (at) => endDeploy(at, id, { ...end, migrations: [] })).catch(failed)
  }
}

/** The app's file at the same place in another folder. @throws APP_NOT_FOUND */
function appIn(place: string, appFile: string): string {
  const isFolder = statSync(place, { throwIfNoEntry: false })?.isDirectory()
  const file = isFolder ? path.join(place, path.relative(codeFolderOf(appFile), appFile)) : place
  if (existsSync(file)) return file
  throw new RungError('APP_NOT_FOUND', `There is no ${file}. Name the folder of the new code, or the app's file in it.`)
}

async function migrateApart(
  args: readonly string[],
  env: Env,
  cwd: string,
  named: (text: string) => string,
  note: (text: string) => void,
): Promise<string[]> {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, 'migrate', ...args, '--json'], {
    cwd,
    env: env as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    for (const line of chunk.split('\n')) if (line.trim() !== '') note(line.trimEnd())
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  child.once('error', reject)
  child.once('close', () => resolve())
  await promise
  const answer = documentIn(output)
  if (answer?.applied) return answer.applied
  const { code = '', message = 'rung migrate ended without an answer' } = answer?.error ?? {}
  throw new RungError(
    Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : 'MIGRATION_FAILED',
    `${named(sentence(message))} No process was restarted. Migrations that were applied before stay: rung migrate --status`,
  )
}

interface Answer {
  applied?: string[]
  error?: { code: string; message: string }
}

/** The app may print lines of its own before it. */
function documentIn(output: string): Answer | undefined {
  const [text] = /^\{\n[\s\S]*?^\}$/m.exec(output) ?? []
  return text === undefined ? undefined : (JSON.parse(text) as Answer)
}
