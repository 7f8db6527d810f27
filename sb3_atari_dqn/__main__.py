"""python -m sb3_atari_dqn <command>"""

from sb3_atari_dqn.zoo.commands import main

if __name__ == "__main__":
    main()
