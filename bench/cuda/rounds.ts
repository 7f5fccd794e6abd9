/**
 * Rounds in which each contender has a turn, in an order that shifts from round to round. Returns the times of each
 * contender.
 */
export async function timeInRounds(
  contenders: readonly { time(): number | Promise<number> }[],
  repeats: number,
): Promise<number[][]> {
  const times: number[][] = contenders.map(() => []);
  for (let round = -1; round < repeats; ++round) {
    for (let k = 0; k < contenders.length; ++k) {
      const turn = (k + round + 1) % contenders.length;
      const time = await contenders[turn].time();
      if (round >= 0) times[turn].push(time); // the first round warms up
    }
  }
  return times;
}
