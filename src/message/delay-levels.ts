/**
 * RocketMQ's delay levels (messageDelayLevel). A delivery time from 1 to 18 names a level: the message is due that
 * long after the broker group stored it, whatever the clock of its producer says. Part of the format.
 */
const second = 1000
const minute = 60 * second
const hour = 60 * minute

/** Milliseconds, by level less 1. */
export const delayLevelsMs: readonly number[] = [
  1 * second,
  5 * second,
  10 * second,
  30 * second,
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30].map((minutes) => minutes * minute),
  1 * hour,
  2 * hour,
]

/** Furthest that a message may be delayed. */
export const delayMsMax: number = 40 * 24 * hour

/** When a message stored at this log time is due; at once when that is over, and never later than 40 days after. */
export function dueTime(deliveryTime: number, storeTime: number): number {
  const levelMs = deliveryTime > 0 ? delayLevelsMs[deliveryTime - 1] : undefined
  const time = Math.max(storeTime, levelMs === undefined ? deliveryTime : storeTime + levelMs)
  return Math.min(time, storeTime + delayMsMax)
}
