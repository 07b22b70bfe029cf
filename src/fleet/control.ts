import { chmod, rm } from 'node:fs/promises'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { makeSocketDir } from '../engines/process/server-process.ts'
import { after } from '../kernel/clock.ts'
import { errorCodes, isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { isRungName } from '../topology/catalog.ts'
import { isBuild, type NodeGroup, nodeGroups } from '../topology/setting-types.ts'
import type { Range, RungName } from '../topology/topology.ts'
import { dirFor } from './placement.ts'
import { runningFleet } from './state.ts'

/**
 * The door through which other commands of this user change a running fleet: a Unix socket in a private folder. A client sends one
 * line of JSON, a request. The answer is lines of JSON: notes on the progress, then the result or an error.
 */
export type ControlRequest =
  | ScaleRequest
  | ({ readonly command: 'deploy' } & DeployRequest)
  | ({ readonly command: 'climb' } & ClimbRequest)
  /** Reads the settings again, and restarts one after the other the processes of the app for which something has changed. */
  | { readonly command: 'reload' }
  /** Reads the files of the certificate, and lets the entry use them. */
  | { readonly command: 'reload-certificate' }
  | ({ readonly command: 'extract' } & ExtractRequest)
  | { readonly command: 'restart'; readonly part: string }
  | { readonly command: 'kill'; readonly part: string; readonly sure: boolean }
  | { readonly command: 'kill-zone'; readonly zone: string; readonly sure: boolean }

/** Numbers or ranges by part: `{ command: 'scale', web: 4, 'media-web': 2 }`. */
export type ScaleRequest = { readonly command: 'scale' } & Scaled
type Scaled = Readonly<Record<string, number | Range | string>>

export interface DeployRequest {
  /** The folder of the code, or the app's file; absolute. */
  readonly place?: string | undefined
  readonly build?: string | undefined
  readonly watchMs?: number | undefined
}

export interface ClimbRequest {
  /** The next one unless given. */
  readonly rung?: RungName | undefined
  /** The rung of the fleet when the plan was checked; refused if it runs at another one by now. */
  readonly from?: RungName | undefined
  /** Goes back to the rung before the last climb. */
  readonly undo?: boolean | undefined
  /** Changes nothing, and returns the plan. */
  readonly dryRun?: boolean | undefined
  /** How long the traffic before and after is compared. */
  readonly watchMs?: number | undefined
}

export interface ExtractRequest {
  /** The groups that the fleet has from then on. */
  readonly nodes: Readonly<Record<string, NodeGroup>>
  /** The groups of the fleet when the change was planned; refused if it has others by now. */
  readonly from: Readonly<Record<string, NodeGroup>>
}

/** Old and new are compared for at most this long. */
export const watchMsMost = 3_600_000

/** Numbers of parts by name. Those of groups are named after both: `media-web`. */
export interface Counts extends Readonly<Record<string, number>> {
  readonly web: number
  readonly worker: number
  readonly replicas: number
}

/** The lines of an answer. */
type Answer = { note: string } | { result: unknown } | { error: { code: string; message: string } }

const countLimits: Readonly<Record<string, readonly [least: number, most: number]>> = {
  web: [1, 64],
  worker: [0, 64],
  replicas: [0, 8],
}
/** A group has each of its roles from the start, or not at all. */
const ofGroups = [1, 64] as const

/** Returns how many of a part there may be; `undefined` if it cannot be scaled. */
export function countLimitsOf(name: string): readonly [least: number, most: number] | undefined {
  if (Object.hasOwn(countLimits, name)) return countLimits[name]
  return /^[a-z][a-z0-9-]*-(web|worker)$/.test(name) ? ofGroups : undefined
}

/** In messages. */
export const scalable = Object.keys(countLimits).join(', ')

const requestBytesMax = 4_096
const requestWithinMs = 2_000
const connectionsMax = 16
const answerBytesMax = 1024 ** 2

/**
 * Checks a request.
 * @throws COMMAND_INVALID
 */
export function parseRequest(text: string): ControlRequest {
  const request = parse(text)
  const { command, part, zone } = request
  if (command === 'scale') {
    const given = Object.keys(request).filter((name) => countLimitsOf(name) && request[name] !== undefined)
    for (const name of given) {
      const [least, most] = countLimitsOf(name)!
      const value = request[name]
      const isCount = (one: unknown) => Number.isInteger(one) && Number(one) >= least && Number(one) <= most
      const isRange = (one: Partial<Range>) => isCount(one.least) && isCount(one.most) && one.least! < one.most!
      const isValid =
        typeof value === 'object' && value !== null ? isAutoscaled(name) && isRange(value) : isCount(value)
      if (!isValid) {
        const ranges = isAutoscaled(name) ? ', or two of them: 2..8' : ''
        throw new RungError('COMMAND_INVALID', `${name} must be a whole number from ${least} to ${most}${ranges}.`)
      }
    }
    return { command, ...Object.fromEntries(given.map((name) => [name, request[name]])) }
  }
  if (command === 'reload' || command === 'reload-certificate') return { command }
  if (command === 'deploy') return { command, ...deployRequestIn(request) }
  if (command === 'climb') return { command, ...climbRequestIn(request) }
  if (command === 'extract' && nodeGroups.accepts(request.nodes) && nodeGroups.accepts(request.from))
    return { command, nodes: request.nodes as ExtractRequest['nodes'], from: request.from as ExtractRequest['from'] }
  if (command === 'kill-zone' && typeof zone === 'string') return { command, zone, sure: request.sure === true }
  if (typeof part !== 'string' || !/^[a-z][a-z0-9-]{0,40}$/.test(part)) throw unreadable()
  if (command === 'restart') return { command, part }
  if (command === 'kill') return { command, part, sure: request.sure === true }
  throw unreadable()
}

/** Jobs wait for workers by queue, which says nothing of the group that they are for. */
const isAutoscaled = (name: string) => name === 'worker' || /^(.+-)?web$/.test(name)

function parse(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // answered below
  }
  throw unreadable()
}

function deployRequestIn({ place, build, watchMs }: Record<string, unknown>): DeployRequest {
  const isText = (value: unknown) => value === undefined || (typeof value === 'string' && value.length < 2_000)
  const isTime = watchMs === undefined || (Number.isInteger(watchMs) && Number(watchMs) >= 0)
  if (!isText(place) || !isText(build) || !isTime || Number(watchMs ?? 0) > watchMsMost) throw unreadable()
  if (typeof build === 'string' && !isBuild(build)) throw unreadable()
  return { place: place as string, build: build as string, watchMs: watchMs as number }
}

function climbRequestIn({ rung, from, undo, dryRun, watchMs }: Record<string, unknown>): ClimbRequest {
  const isRung = [rung, from].every((one) => one === undefined || (typeof one === 'string' && isRungName(one)))
  const isTime = watchMs === undefined || (Number.isInteger(watchMs) && Number(watchMs) >= 0)
  if (!isRung || !isTime || Number(watchMs ?? 0) > watchMsMost) throw unreadable()
  return {
    rung: rung as RungName,
    from: from as RungName,
    undo: undo === true,
    dryRun: dryRun === true,
    watchMs: watchMs as number,
  }
}

function unreadable(): RungError {
  return new RungError(
    'COMMAND_INVALID',
    'The supervisor does not understand this request. Use the same version of Rung for both.',
  )
}

const socketName = 'control.sock'
const folderOf = (dataDir: string) => dirFor({ dataDir, tmpDir: tmpdir() }, 'control', socketName)

/**
 * Opens the door of a fleet; its data directory must be claimed.
 * @returns a function that closes it
 */
export async function openControl(
  dataDir: string,
  handle: (request: ControlRequest, note: (text: string) => void) => Promise<unknown>,
): Promise<() => Promise<void>> {
  const folder = folderOf(dataDir)
  const socket = path.join(folder, socketName)
  makeSocketDir(folder)
  await rm(socket, { force: true }) // of a supervisor that was killed
  const connections = new Set<Socket>()
  const server = createServer((connection) => {
    connections.add(connection)
    connection.on('error', () => {}) // a change goes on without its client
    connection.once('close', () => connections.delete(connection))
    void serve(connection, handle)
  })
  server.maxConnections = connectionsMax
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen(socket, resolve)
  await promise
  await chmod(socket, 0o600)
  return async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    for (const connection of connections) connection.destroySoon()
    await closed
    await rm(folder, { recursive: true, force: true })
  }
}

async function serve(connection: Socket, handle: Parameters<typeof openControl>[1]): Promise<void> {
  const send = (answer: Answer) => {
    if (connection.writable) connection.write(`${JSON.stringify(answer)}\n`)
  }
  try {
    const request = parseRequest(await firstLine(connection))
    send({ result: await handle(request, (note) => send({ note })) })
  } catch (error) {
    send({ error: { code: isRungError(error) ? error.code : 'UNEXPECTED', message: messageOf(error) } })
  } finally {
    connection.end()
  }
}

function firstLine(connection: Socket): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let text = ''
  connection.setEncoding('utf8')
  connection.on('data', (chunk: string) => {
    text += chunk
    const end = text.indexOf('\n')
    if (end >= 0) resolve(text.slice(0, end))
    else if (text.length > requestBytesMax) reject(unreadable())
  })
  connection.once('close', () => reject(unreadable()))
  const forget = after(requestWithinMs, () => reject(unreadable()))
  return promise.finally(() => {
    forget()
    connection.removeAllListeners('data').resume()
  })
}

/**
 * Sends a request to the fleet that runs on a data directory, and returns its result.
 * @throws FLEET_NOT_RUNNING, and what the fleet answers
 */
export async function askFleet(
  dataDir: string,
  request: ControlRequest,
  note: (text: string) => void,
): Promise<unknown> {
  const none = (cause?: unknown) =>
    new RungError(
      'FLEET_NOT_RUNNING',
      'No "rung up" runs on this data directory, or it is still starting. See: rung ps',
      {
        ...(cause !== undefined && { cause }),
      },
    )
  if (!(await runningFleet(dataDir))) throw none()
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  const connection = createConnection(path.join(folderOf(dataDir), socketName))
  let text = ''
  connection.setEncoding('utf8')
  connection.once('connect', () => connection.write(`${JSON.stringify(request)}\n`))
  connection.once('error', (error) => reject(none(error)))
  connection.on('data', (chunk: string) => {
    const lines = (text + chunk).split('\n')
    text = lines.pop()!
    if (text.length > answerBytesMax) connection.destroy()
    for (const line of lines) {
      const answer = JSON.parse(line) as Answer
      if ('note' in answer) note(answer.note)
      else if ('result' in answer) resolve(answer.result)
      else reject(errorIn(answer.error))
    }
  })
  connection.once('close', () =>
    reject(new RungError('FLEET_NOT_RUNNING', 'The fleet stopped before it had answered. See: rung ps')),
  )
  return promise.finally(() => connection.destroy())
}

function errorIn({ code, message }: { code: string; message: string }): Error {
  return Object.hasOwn(errorCodes, code) ? new RungError(code as keyof typeof errorCodes, message) : new Error(message)
}
