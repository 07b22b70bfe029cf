import type { Socket } from 'node:net'
import path from 'node:path'
import type { Query, View } from '../console/feed.ts'
import { type Action, type Console, type Content, connectionsMax, serveConsole } from '../console/server.ts'
import { after } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { withoutFrames } from '../primitives/mail/read-message.ts'
import { loadApp } from '../runtime/load-app.ts'
import { type Command, type Input, parseInput, present, result, settingOptions } from './command.ts'
import { consolePort, tokenIn } from './console-door.ts'
import { pictureOf } from './files.ts'
import { dataDirOfInput } from './input-settings.ts'
import { ownPackage } from './own-package.ts'
import { stopOnSignal } from './stop-on-signal.ts'

/** The process that `rung start` and `rung up` start for the console ends after this time without a connection. */
const emptyMs = 600_000

const command: Command = {
  name: 'console',
  summary: 'show the fleet, its figures and advice in the browser',
  usage: 'rung console [app-file] [options]',
  wordsMax: 1,
  help: [
    'Serves pages on this machine that show what the other commands print: where the app stands on the',
    'ladder, its parts, traffic, errors, data, jobs, alerts and advice. The address contains a token; whoever',
    'has it may look. Nothing is read while no page is open.',
    '',
    'With --act the pages also change what they show: restart a part, retry a dead job, acknowledge an alert.',
    'The guide: docs/guides/console.md.',
  ].join('\n'),
  examples: ['rung console', 'rung console --act --port 4600'],
  options: {
    act: { type: 'boolean', help: 'Allow changes.' },
    port: {
      type: 'string',
      value: 'number',
      help: `The port, on 127.0.0.1 (${consolePort}, or another one if it is taken).`,
    },
    passed: {
      type: 'boolean',
      help: 'Open no port: the process that starts this one has it, and passes connections on (rung start, rung up).',
    },
    origin: {
      type: 'string',
      value: 'url',
      help: 'The address that browsers use, if a proxy is in front: https://console.example.org.',
    },
    token: { type: 'boolean', help: 'Print the token, and nothing else.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { values, positionals, cwd, out } = input
    const dataDir = dataDirOfInput(input)
    if (values.token === true) return result({ token: await tokenIn(dataDir) }, ({ token }) => out.line(token))
    const stopped = stopOnSignal(input)
    const [app] = positionals
    const loaded = await loadApp(app, cwd).catch(() => undefined)
    const started = {
      ...{ host: '127.0.0.1', token: await tokenIn(dataDir), origin: originIn(values.origin) },
      ...{ acts: values.act === true, views: viewsOf(input), actions: actionsOf(input) },
      contents: contentsOf(input),
      about: { app: loaded?.name ?? path.basename(cwd), version: (await ownPackage()).version },
    }
    const port = values.port === undefined ? consolePort : portIn(values.port)
    if (values.passed === true) {
      const running = await serveConsole({ ...started, port, passed: true })
      const endTaking = takePassed(running)
      return stopped({
        async stop() {
          endTaking()
          await running.close()
        },
      })
    }
    const running = await serveConsole({ ...started, port }).catch((error) => {
      if (values.port !== undefined) throw error
      return serveConsole({ ...started, port: 0 })
    })
    const view = { url: running.url, acts: started.acts, pid: process.pid }
    present(
      result(view, () => {
        out.line(`console  ${view.url}`)
        out.line(view.acts ? '  It may change things.' : '  It only shows. To change things: rung console --act')
        out.line('  stop     Ctrl-C')
      }),
      input,
    )
    return stopped({ stop: () => running.close() })
  },
}
export default command

/**
 * Serves what the parent process passes on (console-door.ts), and ends when nobody has been here for a while.
 * @returns a function that takes no more
 */
function takePassed(running: Console): () => void {
  if (!process.send) throw new RungError('COMMAND_INVALID', '--passed is for rung start and rung up. Leave it out.')
  const end = () => void process.kill(process.pid, 'SIGTERM')
  process.channel!.ref() // it is what keeps this process running
  let open = 0
  let forget = after(emptyMs, end)
  function take(number: unknown, connection?: Socket): void {
    process.send!(number) // it has arrived
    if (!connection) return // it was closed on the way
    if (open >= connectionsMax) return void connection.destroy()
    forget()
    open += 1
    connection.once('close', () => {
      open -= 1
      if (open === 0) forget = after(emptyMs, end)
    })
    running.take(connection)
  }
  process.on('message', take)
  process.send('ready')
  return () => {
    forget()
    process.off('message', take)
    process.channel?.unref()
  }
}

function portIn(value: unknown): number {
  const port = Number(value)
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port
  throw new RungError('COMMAND_INVALID', `--port must be a whole number from 0 to 65535; it is "${value}".`)
}

function originIn(value: unknown): string | undefined {
  if (value === undefined) return undefined
  const url = URL.canParse(String(value)) ? new URL(String(value)) : undefined
  if (url && /^https?:$/.test(url.protocol) && url.origin === value) return url.origin
  throw new RungError(
    'COMMAND_INVALID',
    `--origin must be an address without a path, such as https://console.example.org; it is "${value}".`,
  )
}

type Load = () => Promise<{ default: Command }>

interface Shown {
  load: Load
  words?: readonly string[]
  /** Words with which it answers at once, with less. */
  glance?: readonly string[]
  /** Options that a page may set. */
  options?: readonly string[]
  /** One of them that the command takes as a word. */
  word?: string
  everyMs: number
  /** Whether the command takes the app's file. */
  ofApp?: boolean
}

const shown: Readonly<Record<string, Shown>> = {
  fleet: { load: () => import('./ps.ts'), glance: ['--brief'], everyMs: 1_000 },
  report: { load: () => import('./report.ts'), everyMs: 60_000, ofApp: true },
  step: { load: () => import('./climb.ts'), words: ['--dry-run'], everyMs: 60_000 },
  plan: { load: () => import('./plan.ts'), everyMs: 60_000, ofApp: true },
  cost: { load: () => import('./cost.ts'), everyMs: 60_000, ofApp: true },
  advice: { load: () => import('./advise.ts'), everyMs: 60_000, ofApp: true },
  decisions: { load: () => import('./adr.ts'), everyMs: 60_000, ofApp: true },
  record: { load: () => import('./record.ts'), options: ['since'], everyMs: 15_000 },
  load: { load: () => import('./load.ts'), words: ['last'], everyMs: 10_000 },
  series: { load: () => import('./record.ts'), words: ['series'], options: ['since'], everyMs: 15_000 },
  ready: { load: () => import('./ready.ts'), everyMs: 60_000, ofApp: true },
  backups: { load: () => import('./backup.ts'), words: ['list'], everyMs: 60_000 },
  errors: { load: () => import('./errors.ts'), options: ['since'], everyMs: 5_000 },
  recentErrors: { load: () => import('./errors.ts'), words: ['--since=1h'], everyMs: 5_000 },
  error: { load: () => import('./errors.ts'), options: ['id'], word: 'id', everyMs: 5_000 },
  alerts: { load: () => import('./alerts.ts'), everyMs: 5_000 },
  incidents: { load: () => import('./incidents.ts'), options: ['since'], everyMs: 10_000 },
  deploys: { load: () => import('./deploys.ts'), everyMs: 10_000 },
  topology: { load: () => import('./topology.ts'), everyMs: 60_000, ofApp: true },
  doctor: { load: () => import('./doctor.ts'), everyMs: 60_000, ofApp: true },
  statements: { load: () => import('./statements.ts'), options: ['since', 'last'], everyMs: 10_000 },
  cache: { load: () => import('./cache.ts'), everyMs: 10_000 },
  queues: { load: () => import('./jobs.ts'), everyMs: 2_000 },
  jobs: { load: () => import('./jobs.ts'), words: ['list'], options: ['state'], everyMs: 5_000 },
  crons: { load: () => import('./jobs.ts'), words: ['crons'], everyMs: 5_000 },
  running: { load: () => import('./jobs.ts'), words: ['list', '--state=running'], everyMs: 2_000 },
  mails: { load: () => import('./mail.ts'), words: ['list'], options: ['last'], everyMs: 2_000 },
  mail: { load: () => import('./mail.ts'), words: ['show'], options: ['id'], word: 'id', everyMs: 60_000 },
  files: { load: () => import('./files.ts'), options: ['last'], everyMs: 5_000 },
  groups: { load: () => import('./events.ts'), everyMs: 2_000 },
  traces: { load: () => import('./traces.ts'), options: ['route', 'slow', 'failed'], everyMs: 2_000 },
  trace: { load: () => import('./traces.ts'), options: ['id'], word: 'id', everyMs: 5_000 },
  deliveries: { load: () => import('./events.ts'), words: ['list'], options: ['state'], everyMs: 5_000 },
}

function viewsOf(input: Input): Record<string, View> {
  return Object.fromEntries(
    Object.entries(shown).map(([name, { load, words = [], glance, options = [], word, everyMs, ofApp }]) => {
      const app = ofApp && input.positionals[0] !== undefined ? [input.positionals[0]] : []
      const reading = (more: readonly string[]) => async (query: Query) => {
        const unknown = Object.keys(query).find((one) => !options.includes(one))
        if (unknown !== undefined) throw new RungError('COMMAND_INVALID', `This view has no option "${unknown}".`)
        const given = Object.entries(query)
          .filter(([option]) => option !== word)
          .map(([option, value]) => (value === '' ? `--${option}` : `--${option}=${value}`))
        const named = word !== undefined && query[word] !== undefined ? ['--', query[word]] : []
        return viewOf(input, load, [...given, ...more, ...words, ...app, ...named])
      }
      return [name, { everyMs, read: reading([]), ...(glance && { glance: reading(glance) }) }]
    }),
  )
}

function contentsOf(input: Input): Record<string, Content> {
  return {
    async mail({ id }) {
      const view = await viewOf(input, () => import('./mail.ts'), ['show', '--', named(id)])
      return { type: 'text/html; charset=utf-8', body: withoutFrames((view as { html: string | null }).html ?? '') }
    },
    picture: async ({ key }) => pictureOf(input, named(key)),
  }
}

function actionsOf(input: Input): Record<string, Action> {
  const act =
    (load: Load, ...options: string[]) =>
    (...words: (string | undefined)[]) => {
      return viewOf(input, load, [...options, '--', ...words.map(named)])
    }
  return {
    restart: ({ part }) => act(() => import('./restart.ts'))(part),
    climb: ({ to, accept }) => {
      const accepted = accept === undefined ? [] : [`--accept=${accept}`]
      return act(() => import('./climb.ts'), '--watch=10s', ...accepted)(to)
    },
    'undo-climb': () => act(() => import('./climb.ts'), '--watch=10s', '--undo')(),
    kill: ({ part }) => act(() => import('./kill.ts'), '--yes')(part),
    scale: ({ web, worker, replicas }) => {
      const counts = Object.entries({ web, worker, replicas }).filter(([, count]) => count !== undefined)
      return act(() => import('./scale.ts'))(...counts.map(([name, count]) => `${name}=${count}`))
    },
    'retry-job': ({ id }) => act(() => import('./jobs.ts'))('retry', id),
    'retry-dead-jobs': ({ queue }) => act(() => import('./jobs.ts'), '--dead', `--queue=${named(queue)}`)('retry'),
    'retry-dead-deliveries': ({ queue }) =>
      act(() => import('./events.ts'), '--dead', `--queue=${named(queue)}`)('retry'),
    'cancel-job': ({ id }) => act(() => import('./jobs.ts'))('cancel', id),
    'retry-delivery': ({ id }) => act(() => import('./events.ts'))('retry', id),
    acknowledge: ({ alert }) => act(() => import('./alerts.ts'))('ack', alert),
  }
}

/** @throws COMMAND_INVALID */
function named(word: string | undefined): string {
  if (word === undefined) throw new RungError('COMMAND_INVALID', 'A value of this change is missing.')
  return word
}

/** Runs a command as with `--json`, and returns what it would print. */
async function viewOf(input: Input, load: Load, args: readonly string[]): Promise<unknown> {
  const command = (await load()).default
  const dataDir = input.values.data === undefined ? [] : [`--data=${input.values.data}`]
  const takesData = Object.hasOwn(command.options, 'data')
  const { values, positionals } = parseInput(command, [...(takesData ? dataDir : []), ...args])
  const silent = { line() {}, json() {}, note() {} }
  const outcome = await command.run({ ...input, values: values as Query, positionals, json: true, out: silent })
  return typeof outcome === 'number' ? null : outcome.view
}
