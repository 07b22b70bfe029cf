import { everyAlone } from '../../kernel/clock.ts'
import type { Client } from './client.ts'
import { type DiskEvent, type DiskGuard, diskGuard } from './disk.ts'
import { adminAt } from './server.ts'
import { releaseRows } from './slots.ts'

const diskLookEveryMs = 1_000
const releaseEveryMs = 30_000

/** What is done for a server as long as it is the primary. */
export interface PrimaryDuties {
  readonly disk: DiskGuard
  /** Twice is the same as once. */
  begin(keeper: () => Client, socketDir: string): void
  /** Nothing begins any more; resolves when nothing of it runs. */
  end(): Promise<void>
}

/** @param root the folder `.rung` */
export function primaryDuties(root: string, onEvent: (event: DiskEvent, detail: string) => void): PrimaryDuties {
  const disk = diskGuard(root, onEvent)
  let ends: (() => Promise<void>)[] = []
  return {
    disk,
    begin(keeper, socketDir) {
      if (ends.length > 0) return
      // A lost connection is taken care of elsewhere.
      ends = [
        everyAlone(diskLookEveryMs, () => disk.look(keeper()).catch(() => {})),
        everyAlone(releaseEveryMs, () => releaseRows(keeper(), adminAt(socketDir)).catch(() => {})),
      ]
    },
    async end() {
      await Promise.all(ends.map((end) => end()))
    },
  }
}
