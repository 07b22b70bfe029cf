import { rm } from 'node:fs/promises'
import { askAgain } from './changes.ts'
import type { Undo } from './fault.ts'
import { balanceBack, restoreSocket, restoreUpstream } from './network.ts'
import { resumeReplay } from './postgres.ts'
import { resume } from './processes.ts'
import { leaveGroup } from './squeeze.ts'

export async function undoBy(undo: Undo): Promise<void> {
  switch (undo.how) {
    case 'resume':
      return resume(undo.processes)
    case 'leave-group':
      return leaveGroup(undo.group, undo.home)
    case 'resume-replay':
      return resumeReplay(undo.socketDir)
    case 'ask-fleet':
      return askAgain(undo)
    case 'restore-socket':
      return restoreSocket(undo)
    case 'remove':
      return rm(undo.file, { force: true })
    case 'balance':
      return balanceBack(undo)
    case 'upstream':
      return restoreUpstream(undo)
  }
}
