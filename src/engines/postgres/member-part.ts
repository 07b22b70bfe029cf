import { systemClock } from '../../kernel/clock.ts'
import type { EngineEvents, RunningPart } from '../process/engine.ts'
import { type StartMemberOptions, startMember } from './member.ts'

export type MemberPartOptions = Pick<StartMemberOptions, 'dataDir' | 'name' | 'connectionsMax'>

/** Starts a member as a part of a fleet. It restarts itself, so the part ends only by being stopped. */
export async function startMemberPart(
  options: MemberPartOptions,
  { report, note, over, mayReturn }: EngineEvents,
): Promise<RunningPart> {
  const progress = copyProgress(note)
  const { promise: exited, resolve } = Promise.withResolvers<string>()
  const member = await startMember({
    ...options,
    endsWithOwner: true,
    over,
    mayReturn,
    onProgress: progress.tell,
    onEvent(event, detail) {
      if (event === 'copying') {
        progress.restart()
        note(`copies the primary, because ${detail}`)
      }
      if (event === 'copied') note(`has copied ${detail}`)
      if (event === 'lost') report(detail)
      if (event === 'recovered') report(undefined, member.pid())
    },
  })
  return {
    pid: member.pid(),
    exited,
    answers: member.answers,
    kill: member.kill,
    member,
    stop: () => member.stop().finally(() => resolve('Postgres was stopped')),
  }
}

const tellEveryMs = 2_000

/** Tells how far a copy is, every two seconds. */
function copyProgress(note: (text: string) => void) {
  let began = 0
  let toldAt = 0
  return {
    restart() {
      began = systemClock.ticks()
      toldAt = began
    },
    tell(doneBytes: number, totalBytes: number) {
      const at = systemClock.ticks()
      if (at - toldAt < tellEveryMs) return
      toldAt = at
      const [done, total] = [doneBytes / 1024 ** 2, totalBytes / 1024 ** 2]
      const rate = done / ((at - began) / 1000)
      note(`has copied ${done.toFixed(0)} of ${total.toFixed(0)} MB, at ${rate.toFixed(0)} MB/s`)
    },
  }
}
