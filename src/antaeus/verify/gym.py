from antaeus.propose.grading import grade_gym
