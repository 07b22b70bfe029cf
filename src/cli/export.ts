import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { alertFiles } from '../export/alerts.ts'
import { composeFiles, webNames } from '../export/compose.ts'
import { leftOut } from '../export/environment.ts'
import { type Exported, type Files, isMarked } from '../export/files.ts'
import { imageFiles } from '../export/image.ts'
import { kubernetesFiles } from '../export/kubernetes.ts'
import { monitoringFiles } from '../export/monitoring.ts'
import { systemdFiles } from '../export/systemd.ts'
import { workflowFiles } from '../export/workflow.ts'
import { deploymentOf } from '../fleet/deployment.ts'
import { engines } from '../fleet/engines.ts'
import { RungError } from '../kernel/errors.ts'
import { type OwnedRule, rulesOf } from '../observe/alerts/owners.ts'
import { trustedNetworks } from '../primitives/http/address.ts'
import { requestTimeoutOf } from '../primitives/http/http.ts'
import { proofFile } from '../prove/proof.ts'
import { closingMs } from '../runtime/boot.ts'
import { loadApp, requireApp } from '../runtime/load-app.ts'
import type { LoadedSettings } from '../runtime/load-settings.ts'
import { backupDirOf, dataDirOf } from '../topology/bindings.ts'
import { privatePlaces } from '../topology/read-settings.ts'
import { type Command, result, settingOptions } from './command.ts'
import { rungAndApp, settingsOf } from './input-settings.ts'

/** Where processes run from an image. */
const containers = { compose: composeFiles, kubernetes: kubernetesFiles } as const
const isContainer = (text: string): text is keyof typeof containers => Object.hasOwn(containers, text)

const command: Command = {
  name: 'export',
  summary: 'write what systemd, Docker Compose or Kubernetes runs at a rung',
  usage: 'rung export systemd|compose|kubernetes [rung] [app-file] --out <folder>',
  help: [
    'systemd: writes a unit for "rung up" on this machine, its environment, and with',
    'RUNG_BACKUP_DIR a weekly drill. The guide: docs/guides/one-server.md.',
    '',
    'compose, kubernetes: writes a Dockerfile and .dockerignore beside package.json, and',
    'into the folder what runs the rung there: compose.yaml, or manifests with a',
    'kustomization. Both name the secrets that they need, and contain none. Engines that',
    'settings name (DATABASE_URL, RUNG_REDIS_URL) run elsewhere; the others are part of',
    'what is written.',
    '',
    'Run it again after each change of rung.config.ts, and for the next rung: the difference',
    'is what the climb adds. To keep a file as you have changed it, delete its first',
    'comment, which says who writes it. The kustomization of the folder is written once.',
    'The guide: docs/guides/ship.md.',
  ].join('\n'),
  settings: [
    'rung',
    'processes',
    'http.trustProxy',
    'data',
    'cache',
    'edge',
    'balancer',
    'cdn',
    'files',
    'mail',
    'log',
    'record',
    'alerts',
    'limits',
    'shedding',
    'stop',
    'telemetry',
  ],
  examples: [
    'rung export systemd 1k --out deploy',
    'rung export compose 10k --out deploy',
    'rung export kubernetes 100k --out deploy --json',
  ],
  options: {
    out: { type: 'string', value: 'folder', help: 'Where the files are written.' },
    workflow: {
      type: 'boolean',
      help: 'Also write .github/workflows/ship.yaml, with which GitHub checks, builds, rolls out, watches and rolls back.',
    },
    ...settingOptions('processes.web', 'processes.worker', 'data.replicas'),
  },
  async run(input) {
    const { positionals, cwd, out } = input
    const [target = '', ...rest] = positionals
    const isKnown = isContainer(target) || (target === 'systemd' && !input.values.workflow)
    if (!isKnown || typeof input.values.out !== 'string') {
      throw new RungError('COMMAND_INVALID', 'Say for what, and where: rung export compose 10k --out deploy')
    }
    const folder = path.resolve(cwd, input.values.out)
    const { rung, app: file } = rungAndApp(rest)
    const settings = await settingsOf(input, { app: requireApp(file, cwd), rung })
    const app = await loadApp(file, cwd)
    const requestTimeoutMs = requestTimeoutOf(app.http)
    const exported: Exported = {
      settings,
      deployment: deploymentOf(settings, engines),
      app: {
        name: app.name,
        file,
        requestTimeoutMs,
        trustedProxies: trustedNetworks(app.http.trustProxy),
        stopMs: settings.values.stop.drainMs + requestTimeoutMs + settings.values.stop.graceMs + closingMs,
      },
      context: path.relative(folder, cwd) || '.',
    }
    const texts = isContainer(target)
      ? await containerTexts(target, exported, {
          folder,
          cwd,
          workflow: input.values.workflow === true,
          rules: rulesOf(app),
        })
      : inFolder(folder, systemdFiles({ ...exported, machine: thisMachine(settings, cwd) }))
    const unused = isContainer(target) ? leftOut(settings) : []
    const view = { target, rung: settings.values.rung, leftOut: unused, ...(await write(new Map(texts), cwd)) }
    return result(view, ({ written, kept }) => {
      for (const name of written) out.line(`wrote  ${name}`)
      for (const name of kept) out.line(`kept   ${name}, which is yours`)
      if (unused.length > 0) out.line(`\nWithout effect there: ${unused.join(', ')}. See docs/guides/ship.md.`)
    })
  },
}
export default command

/** An image, what runs from it, and perhaps the pipeline that makes it. */
async function containerTexts(
  target: keyof typeof containers,
  exported: Exported,
  { folder, cwd, workflow, rules }: { folder: string; cwd: string; workflow: boolean; rules: readonly OwnedRule[] },
): Promise<[file: string, text: string][]> {
  const { name, file } = exported.app
  const facts = {
    ...{ name, file, folder: path.relative(cwd, folder) || '.', parts: partsIn(exported, target) },
    proof: path.relative(cwd, path.join(path.dirname(requireApp(file, cwd)), proofFile)),
  }
  const hidden = privatePlaces(exported.settings).map((place) => path.relative(cwd, path.resolve(cwd, place)))
  return [
    ...inFolder(cwd, imageFiles({ file, packed: await packedIn(cwd), hidden })),
    ...inFolder(folder, containers[target](exported)),
    ...inFolder(path.join(folder, 'monitoring'), { ...monitoringFiles(exported, target), ...alertFiles(rules) }),
    ...(workflow ? inFolder(cwd, workflowFiles(target, facts)) : []),
  ]
}

/** The processes of the app by their names there. */
function partsIn({ deployment: { topology } }: Exported, target: keyof typeof containers): string[] {
  const { both, web, worker } = topology.processes
  const webs = target === 'compose' ? webNames(web) : ['web']
  return [...(both > 0 ? ['app'] : []), ...(web > 0 ? webs : []), ...(worker > 0 ? ['worker'] : [])]
}

function thisMachine(settings: LoadedSettings, cwd: string) {
  return {
    cwd,
    program: [process.execPath, ...process.execArgv, path.resolve(process.argv[1]!)],
    dataDir: dataDirOf(settings, cwd),
    backupDir: backupDirOf(settings, cwd),
  }
}

function inFolder(folder: string, files: Files): [file: string, text: string][] {
  return Object.entries(files).map(([name, text]) => [path.join(folder, name), text])
}

/** Files that somebody else has written, or taken over, are left as they are. */
async function write(texts: ReadonlyMap<string, string>, cwd: string): Promise<{ written: string[]; kept: string[] }> {
  const [written, kept]: [string[], string[]] = [[], []]
  for (const [file, text] of texts) {
    const isOurs = !existsSync(file) || isMarked(await readFile(file, 'utf8'))
    ;(isOurs ? written : kept).push(path.relative(cwd, file))
    if (!isOurs) continue
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, text)
  }
  return { written, kept }
}

/**
 * Returns the packed file of Rung that `package.json` names, if it names one.
 * @throws CONFIG_INVALID if an image cannot be built from this folder
 */
async function packedIn(cwd: string): Promise<string | undefined> {
  const text = await readFile(path.join(cwd, 'package.json'), 'utf8').catch(() => '{}')
  const from: unknown = JSON.parse(text).dependencies?.rung
  if (typeof from !== 'string') {
    throw invalid(
      'package.json does not name "rung" among its dependencies. Run the command in the folder of an app that does.',
    )
  }
  if (!existsSync(path.join(cwd, 'package-lock.json'))) {
    throw invalid('There is no package-lock.json, from which the image installs packages. Run: npm install')
  }
  if (!from.startsWith('file:')) return undefined
  const packed = path.normalize(from.slice('file:'.length))
  if (!packed.startsWith('..') && !path.isAbsolute(packed)) return packed
  const name = path.basename(packed)
  throw invalid(
    `package.json names ${packed}, which is outside this folder and so cannot be in an image. Run: mkdir -p vendor && cp ${packed} vendor/ && npm install ./vendor/${name}`,
  )
}

function invalid(message: string): RungError {
  return new RungError('CONFIG_INVALID', message)
}
