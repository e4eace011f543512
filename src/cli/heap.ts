/**
 * How the heap of a server process grows. Called once by `ledgermq broker`, before it allocates anything.
 *
 * A broker holds some twenty megabytes of objects, and every message passes through buffers outside of the heap. V8
 * counts those towards the limit of the old generation, which it sets to little more than what the last collection
 * left: it marked the whole heap ten to fifteen times a second, a quarter to a half of all time. Told to let the heap
 * grow further between two collections, it lets garbage buffers lie a little longer and marks a few times a second.
 */
import { setFlagsFromString } from 'node:v8'

/** The limit is this much above what a collection left, percent. Bounds the garbage that lies around to a few of that. */
const growthPercent = 400

export function letHeapGrow(): void {
  setFlagsFromString(`--heap-growing-percent=${growthPercent}`)
}
