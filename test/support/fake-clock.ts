import type { Packages } from '../../src/engines/process/debian.ts'
import { fakeClockLibrary } from '../../src/engines/process/fake-clock.ts'

export const fakeClockPackages: Packages = { debian: ['faketime'], debianServices: [], brew: [], dockerImage: '' }
/** For `{ skip: noFakeClocks }`: the reason, where there is none. */
export const noFakeClocks: string | false = fakeClockLibrary()
  ? false
  : 'libfaketime is not installed: apt install faketime'
