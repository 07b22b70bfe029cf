import type { Undo } from './fault.ts'
import { resume } from './processes.ts'
import { leaveGroup } from './squeeze.ts'

export async function undoBy(undo: Undo): Promise<void> {
  switch (undo.how) {
    case 'resume':
      return resume(undo.processes)
    case 'leave-group':
      return leaveGroup(undo.group, undo.home)
  }
}
